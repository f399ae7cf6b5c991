// What Python sees of paths and fronts.
#include <limits>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "kernels/cost_search.hpp"
#include "kernels/fast_marching.hpp"

namespace msf {
namespace {

// One thread at a time, whatever Python's threads do.
class LockedSearch {
 public:
  explicit LockedSearch(std::unique_ptr<CostSearch> search) : search_(std::move(search)) {}

  // The caller has released the GIL: who holds the lock may want it, to look for Ctrl-C.
  template <class F>
  auto call(F&& f) {
    const std::lock_guard lock(mutex_);
    return f(*search_);
  }

 private:
  std::unique_ptr<CostSearch> search_;
  std::mutex mutex_;
};

std::unique_ptr<LockedSearch> locked(std::unique_ptr<CostSearch> search) {
  return std::make_unique<LockedSearch>(std::move(search));
}

}  // namespace

void bind_paths(const Scope& m) {
  using Numbers = std::vector<double>;
  m.def("fast_marching", &fast_marching);
  m.def("search_costs",
        [](const Array& costs, const Offsets& offsets, const Numbers& lengths, bool geometric,
           double most) { return locked(search_costs(costs, offsets, lengths, geometric, most)); });
  m.def("search_geodesic", [](const Array& image, const Offsets& offsets, const Numbers& lengths,
                              double spatial, double intensity, bool labelled) {
    return locked(search_geodesic(image, offsets, lengths, spatial, intensity, labelled));
  });
  m.def("search_live_wire", [](const Array& local, const Array& gradient, const Offsets& offsets,
                               const std::vector<Numbers>& moves, double weight) {
    return locked(search_live_wire(local, gradient, offsets, moves, weight));
  });

  m.add_class<LockedSearch>("medseg_fast._core.CostSearch")
      .def("start",
           [](LockedSearch& s, const Array& seeds, const Array* labels) {
             s.call([&](CostSearch& c) { c.start(seeds, labels); });
           })
      .def("run",
           [](LockedSearch& s, const Array* ends, std::int64_t count, std::int64_t pixels,
              double cost, double seconds) {
             return s.call([&](CostSearch& c) {
               if (ends) c.aim(*ends, count);
               const std::int64_t settled = c.run({pixels, cost, seconds});
               return std::make_pair(settled, c.finished());
             });
           })
      .def("cost",
           [](LockedSearch& s, std::int64_t pixel) {
             return s.call([&](CostSearch& c) {
               return c.settled(pixel) ? c.cost(pixel) : std::numeric_limits<double>::infinity();
             });
           })
      .def("path",  // one coordinate after the other
           [](LockedSearch& s, std::int64_t pixel) {
             return s.call([&](CostSearch& c) { return c.path(pixel); });
           })
      .def("copy_costs",
           [](LockedSearch& s, const MutableArray& out) {
             s.call([&](CostSearch& c) { c.copy_costs(out); });
           })
      .def("copy_steps",
           [](LockedSearch& s, const MutableArray& out) {
             s.call([&](CostSearch& c) { c.copy_steps(out); });
           })
      .def("copy_labels", [](LockedSearch& s, const Array& table, const MutableArray& out) {
        s.call([&](CostSearch& c) { c.copy_labels(table, out); });
      });
}

}  // namespace msf
