// What Python sees of the graph cuts.
#include <array>
#include <memory>
#include <mutex>
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

// One thread at a time, whatever Python's threads do. One class for grids and other graphs.
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

// A member function of FlowGraph or of a kind of it.
template <auto f>
struct Locked;
template <class Graph, class R, class... A, R (Graph::*f)(A...)>
struct Locked<f> {
  static R call(LockedGraph& graph, A... args) {
    return graph.call<Graph>([&](Graph& g) { return (g.*f)(args...); });
  }
};
template <class Graph, class R, class... A, R (Graph::*f)(A...) const>
struct Locked<f> {
  static R call(LockedGraph& graph, A... args) {
    return graph.call<Graph>([&](const Graph& g) { return (g.*f)(args...); });
  }
};

}  // namespace

static Ref to_python(const CapacityRange& range) {
  return tuple(range.least, range.most, range.nan);
}
static Ref to_python(RegionEdges&& edges) {
  return tuple(std::move(edges.i), std::move(edges.j), std::move(edges.weight));
}
static Ref to_python(const RandomWalkReport& report) {
  return tuple(report.least, report.most, report.iterations, report.converged);
}

void bind_graphs(const Scope& m) {
  m.def("capacity_range", &capacity_range);
  m.def("grid_graph", [](const Array& like, const std::vector<std::int64_t>& shape,
                         const std::vector<std::vector<int>>& offsets) {
    return std::make_unique<LockedGraph>(make_grid_graph(like.dtype, shape, offsets));
  });
  m.def("sparse_graph", [](const Array& like, std::int64_t nodes) {
    return std::make_unique<LockedGraph>(make_sparse_graph(like.dtype, nodes));
  });

  m.def("contrast_weights", &contrast_weights);
  m.def("squared_differences", &squared_differences);
  m.def("region_edges", &region_edges);
  m.def("table_costs", &table_costs);
  m.def("mixture_costs", &mixture_costs);
  m.def("mixture_sums", &mixture_sums);
  m.def("move_unary", &move_unary);
  m.def("move_pairs", &move_pairs);
  m.def("move_labels", &move_labels);
  m.def("icm_sweep", &icm_sweep);
  m.def("mean_and_deviation", &mean_and_deviation);
  m.def("random_walker",
        [](const Array& image, double scale, const std::array<double, 3>& factors, double tolerance,
           std::int64_t most_iterations, WalkSolver solver, const MutableArray& labels,
           std::int64_t n, const MutableArray* probabilities) {
          return random_walker(image, scale, {factors, tolerance, most_iterations, solver}, labels,
                               n, probabilities);
        });

  m.add_class<LockedGraph>("medseg_fast._core.FlowGraph")
      .def("copy",
           [](LockedGraph& g) {
             return std::make_unique<LockedGraph>(g.call([](FlowGraph& h) { return h.clone(); }));
           })
      .def("flow",
           [](LockedGraph& g) {
             return g.call(
                 [](FlowGraph& h) { return std::make_pair(h.flow_integer(), h.flow_float()); });
           })
      .def("counts",
           [](LockedGraph& g) {
             return g.call<SparseGraph>(
                 [](SparseGraph& h) { return std::make_pair(h.nodes(), h.edges()); });
           })
      .def("add_terminal", Locked<&FlowGraph::add_terminal>::call)
      .def("maxflow", Locked<&FlowGraph::maxflow>::call)
      .def("set_flow", Locked<&FlowGraph::set_flow>::call)
      .def("segments", Locked<&FlowGraph::segments>::call)
      .def("excess", Locked<&FlowGraph::excess>::call)
      .def("add_grid_edges", Locked<&GridGraph::add_edges>::call)
      .def("change_grid_edges", Locked<&GridGraph::change_edges>::call)
      .def("grid_residual", Locked<&GridGraph::residual>::call)
      .def("add_nodes", Locked<&SparseGraph::add_nodes>::call)
      .def("add_edges", Locked<&SparseGraph::add_edges>::call)
      .def("tie", Locked<&SparseGraph::tie>::call)
      .def("residual", Locked<&SparseGraph::residual>::call);
}

}  // namespace msf
