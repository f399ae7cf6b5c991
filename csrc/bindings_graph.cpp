// What Python sees of the graph cuts; with bindings.cpp the only file that knows Python.
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "kernels/contrast.hpp"
#include "kernels/maxflow.hpp"
#include "kernels/mixture.hpp"
#include "kernels/moves.hpp"
#include "kernels/random_walker.hpp"
#include "kernels/sparse_graph.hpp"

namespace msf {
namespace {

// One thread at a time, whatever Python's threads do. One class for grids and other graphs: each
// bound function costs half a second of compilation.
class LockedGraph {
 public:
  explicit LockedGraph(std::unique_ptr<FlowGraph> graph) : graph_(std::move(graph)) {}

  template <class Graph = FlowGraph, class F>
  auto call(F&& f) {
    const std::lock_guard lock(mutex_);
    return f(dynamic_cast<Graph&>(*graph_));
  }

 private:
  std::unique_ptr<FlowGraph> graph_;
  std::mutex mutex_;
};

}  // namespace

void bind_graphs(const Scope& m) {
  m.def("capacity_range", [](const Array& capacities) {
    CapacityRange range;
    {
      const ReleaseGil nogil;
      range = capacity_range(capacities);
    }
    return py::make_tuple(range.least, range.most, range.nan);
  });
  m.def("grid_graph", [](const Array& like, const std::vector<std::int64_t>& shape,
                         const std::vector<std::vector<int>>& offsets) {
    return std::make_unique<LockedGraph>(make_grid_graph(like.dtype, shape, offsets));
  });
  m.def("sparse_graph", [](const Array& like, std::int64_t nodes) {
    return std::make_unique<LockedGraph>(make_sparse_graph(like.dtype, nodes));
  });

  m.def("contrast_weights", &contrast_weights);
  m.def("squared_differences", &squared_differences);
  m.def("region_edges",
        [](const Array& image, const Array& labels, const std::vector<std::array<int, 3>>& offsets,
           const std::vector<double>& strengths, double sharpness) {
          RegionEdges edges;
          {
            const ReleaseGil nogil;
            edges = region_edges(image, labels, offsets, strengths, sharpness);
          }
          const auto array = [](const auto& v) {
            return py::array_t<typename std::decay_t<decltype(v)>::value_type>(
                static_cast<py::ssize_t>(v.size()), v.data());
          };
          return py::make_tuple(array(edges.i), array(edges.j), array(edges.weight));
        });
  m.def("table_costs", &table_costs);
  m.def("mixture_costs", [](const Array& image, const Array& mixture, const MutableArray& costs,
                            const std::optional<MutableArray>& components) {
    mixture_costs(image, mixture, costs, components ? &*components : nullptr);
  });
  m.def("mixture_sums", &mixture_sums);
  m.def("move_unary", &move_unary);
  m.def("move_pairs", &move_pairs);
  m.def("move_labels", &move_labels);
  m.def("icm_sweep", &icm_sweep);
  m.def("mean_and_deviation", &mean_and_deviation);
  m.def("random_walker", [](const Array& image, double scale, const std::array<double, 3>& factors,
                            double tolerance, std::int64_t most_iterations, int solver,
                            const MutableArray& labels, std::int64_t n,
                            const std::optional<MutableArray>& probabilities) {
    RandomWalkReport report;
    {
      const ReleaseGil nogil;
      report = random_walker(image, scale,
                             {factors, tolerance, most_iterations, static_cast<WalkSolver>(solver)},
                             labels, n, probabilities ? &*probabilities : nullptr);
    }
    return py::make_tuple(report.least, report.most, report.iterations, report.converged);
  });

  py::class_<LockedGraph>(m, "FlowGraph", py::module_local())
      .def("copy",
           [](LockedGraph& g) {
             return std::make_unique<LockedGraph>(g.call([](FlowGraph& h) { return h.clone(); }));
           })
      .def("add_terminal",
           [](LockedGraph& g, const Array& source, const Array& sink,
              const std::optional<Array>& at) {
             g.call([&](FlowGraph& h) { h.add_terminal(source, sink, at ? &*at : nullptr); });
           })
      .def("maxflow", [](LockedGraph& g) { g.call([](FlowGraph& h) { h.maxflow(); }); })
      .def("flow",
           [](LockedGraph& g) {
             return g.call(
                 [](FlowGraph& h) { return std::make_pair(h.flow_integer(), h.flow_float()); });
           })
      .def("set_flow",
           [](LockedGraph& g, std::int64_t integer, double floating) {
             g.call([&](FlowGraph& h) { h.set_flow(integer, floating); });
           })
      .def("segments",
           [](LockedGraph& g, const MutableArray& out) {
             g.call([&](FlowGraph& h) { h.segments(out); });
           })
      .def("excess", [](LockedGraph& g,
                        const MutableArray& out) { g.call([&](FlowGraph& h) { h.excess(out); }); })
      .def("add_grid_edges",
           [](LockedGraph& g, int direction, const Array& weights, const Array& reverse) {
             g.call<GridGraph>([&](GridGraph& h) { h.add_edges(direction, weights, reverse); });
           })
      .def("grid_residual",
           [](LockedGraph& g, int direction, const MutableArray& out) {
             g.call<GridGraph>([&](GridGraph& h) { h.residual(direction, out); });
           })
      .def("counts",
           [](LockedGraph& g) {
             return g.call<SparseGraph>(
                 [](SparseGraph& h) { return std::make_pair(h.nodes(), h.edges()); });
           })
      .def("add_nodes",
           [](LockedGraph& g, std::int64_t n) {
             g.call<SparseGraph>([&](SparseGraph& h) { h.add_nodes(n); });
           })
      .def("add_edges",
           [](LockedGraph& g, const Array& i, const Array& j, const Array& capacity,
              const Array& reverse) {
             g.call<SparseGraph>([&](SparseGraph& h) { h.add_edges(i, j, capacity, reverse); });
           })
      .def("tie",
           [](LockedGraph& g, const Array& mask) {
             g.call<SparseGraph>([&](SparseGraph& h) { h.tie(mask); });
           })
      .def("residual", [](LockedGraph& g, const MutableArray& i, const MutableArray& j,
                          const MutableArray& capacity, const MutableArray& reverse) {
        g.call<SparseGraph>([&](SparseGraph& h) { h.residual(i, j, capacity, reverse); });
      });
}

}  // namespace msf
