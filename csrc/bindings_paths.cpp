// What Python sees of paths and fronts.
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "kernels/cost_search.hpp"
#include "kernels/fast_marching.hpp"

namespace py = pybind11;

namespace msf {
namespace {

// One thread at a time, whatever Python's threads do.
class LockedSearch {
 public:
  explicit LockedSearch(std::unique_ptr<CostSearch> search) : search_(std::move(search)) {}

  template <class F>
  auto call(F&& f) {
    const ReleaseGil nogil;  // before the lock: who holds it may want the GIL, to look for Ctrl-C
    const std::lock_guard lock(mutex_);
    return f(*search_);
  }

 private:
  std::unique_ptr<CostSearch> search_;
  std::mutex mutex_;
};

template <class F>
std::unique_ptr<LockedSearch> made(F&& make) {
  const ReleaseGil nogil;
  return std::make_unique<LockedSearch>(make());
}

}  // namespace

void bind_paths(py::module_& m) {
  using Numbers = std::vector<double>;
  m.def("fast_marching", &fast_marching, NoGil());
  m.def("search_costs", [](const Array& costs, const Offsets& offsets, const Numbers& lengths,
                           bool geometric, double most) {
    return made([&] { return search_costs(costs, offsets, lengths, geometric, most); });
  });
  m.def("search_geodesic", [](const Array& image, const Offsets& offsets, const Numbers& lengths,
                              double spatial, double intensity, bool labelled) {
    return made(
        [&] { return search_geodesic(image, offsets, lengths, spatial, intensity, labelled); });
  });
  m.def("search_live_wire", [](const Array& local, const Array& gradient, const Offsets& offsets,
                               const std::vector<Numbers>& moves, double weight) {
    return made([&] { return search_live_wire(local, gradient, offsets, moves, weight); });
  });

  py::class_<LockedSearch>(m, "CostSearch", py::module_local())
      .def("start",
           [](LockedSearch& s, const Array& seeds, const std::optional<Array>& labels) {
             s.call([&](CostSearch& c) { c.start(seeds, labels ? &*labels : nullptr); });
           })
      .def("run",
           [](LockedSearch& s, const std::optional<Array>& ends, std::int64_t count,
              std::int64_t pixels, double cost, double seconds) {
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
      .def("path",
           [](LockedSearch& s, std::int64_t pixel, std::int64_t ndim) {
             const auto path = s.call([&](CostSearch& c) { return c.path(pixel); });
             const auto n = static_cast<py::ssize_t>(path.size());
             return py::array_t<std::int64_t>({n / ndim, static_cast<py::ssize_t>(ndim)},
                                              path.data());
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
