// With bindings_graph.cpp and bindings_paths.cpp the only file that knows Python: hands arrays to
// kernels as views and releases the GIL around them.
#include "bindings.hpp"

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <array>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "isa.hpp"
#include "kernels.hpp"
#include "parallel.hpp"

namespace py = pybind11;

namespace {

using msf::NoGil;
using msf::ReleaseGil;

// Python runs signal handlers on its main thread alone, so the others need not wait for the GIL.
void raise_if_interrupted() {
#ifdef __linux__
  if (syscall(SYS_gettid) != getpid()) return;
#endif
  py::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

void bind_threads(py::module_& m) {
  msf::set_interrupt_hook(raise_if_interrupted);
  m.attr("isa") = msf::isa();
  m.attr("compiler") = __VERSION__;
  m.def("num_threads", &msf::num_threads);
  m.def("set_num_threads", &msf::set_num_threads);
  m.def("set_thread_override", &msf::set_thread_override);
  m.def("busy_tasks", &msf::busy_tasks, NoGil(), py::arg("seconds"), py::arg("fail_at") = -1,
        py::arg("nested") = false);
}

void bind_components(py::module_& m) {
  m.def("remove_small", &msf::remove_small, NoGil());
  m.def("largest_component", &msf::largest_component, NoGil());
  m.def("fill_holes", &msf::fill_holes, NoGil());
  m.def("label_sizes", &msf::label_sizes, NoGil());
  m.def("keep_labels", &msf::keep_labels, NoGil());
  m.def("hysteresis", &msf::hysteresis, NoGil());
  m.def(
      "clear_border",
      [](const msf::Array& labels, std::int64_t width, const std::optional<msf::Array>& mask,
         const msf::Array& background, const msf::MutableArray& out) {
        msf::clear_border(labels, width, mask ? &*mask : nullptr, background, out);
      },
      NoGil());
}

// What label_components leaves until the caller has allocated the labels.
struct LabelledRuns {
  std::shared_ptr<const msf::Components> components;
};

void bind_label(py::module_& m) {
  m.def(
      "label_components",
      [](const msf::Array& image, const std::optional<msf::Array>& background, int connectivity,
         bool wide) {
        return LabelledRuns{
            msf::label_components(image, background ? &*background : nullptr, connectivity, wide)};
      },
      NoGil());
  py::class_<LabelledRuns>(m, "LabelledRuns", py::module_local())
      .def_property_readonly("count",
                             [](const LabelledRuns& r) { return count_components(*r.components); })
      .def(
          "write",
          [](const LabelledRuns& r, const msf::MutableArray& labels, bool blank) {
            write_labels(*r.components, labels, blank);
          },
          NoGil());
}

void bind_threshold(py::module_& m) { m.def("in_range", &msf::in_range, NoGil()); }

void bind_histogram(py::module_& m) {
  m.def("value_range", &msf::value_range, NoGil());
  m.def("count_values", &msf::count_values, NoGil());
  m.def("count_bins", &msf::count_bins, NoGil());
  m.def("sum_integers", &msf::sum_integers, NoGil());
  m.def("sum_floats", &msf::sum_floats, NoGil());
  m.def("sum_above", &msf::sum_above, NoGil());
  m.def("multi_otsu", &msf::multi_otsu, NoGil());
  m.def("smooth_to_two_peaks", [](const msf::MutableArray& histogram, std::int64_t max_passes) {
    msf::Peaks peaks;
    {
      py::gil_scoped_release nogil;
      peaks = msf::smooth_to_two_peaks(histogram, max_passes);
    }
    return py::make_tuple(peaks.passes, peaks.count, peaks.first, peaks.second);
  });
}

// Modes by their place in BorderMode.
void bind_local(py::module_& m) {
  const auto border = [](int mode) { return static_cast<msf::BorderMode>(mode); };
  using Sizes = std::vector<std::int64_t>;
  m.def(
      "local_mean",
      [=](const msf::Array& image, const Sizes& block, int mode, double cval, double offset,
          const msf::MutableArray& out) {
        msf::local_mean(image, block, border(mode), cval, offset, out);
      },
      NoGil());
  m.def(
      "local_gaussian",
      [=](const msf::Array& image, const std::vector<std::vector<double>>& weights, int mode,
          double cval, double offset, const msf::MutableArray& out) {
        msf::local_gaussian(image, weights, border(mode), cval, offset, out);
      },
      NoGil());
  m.def(
      "local_median",
      [=](const msf::Array& image, const Sizes& block, int mode, double cval, double offset,
          const msf::MutableArray& out) {
        msf::local_median(image, block, border(mode), cval, offset, out);
      },
      NoGil());
  m.def("local_mean_std", &msf::local_mean_std, NoGil());
}

// A flat footprint as nested tuples, see medseg_fast/_footprint.py.
using Offsets = std::vector<std::pair<std::int64_t, std::int64_t>>;
using Part =
    std::tuple<std::vector<std::int64_t>, std::array<std::int64_t, 3>, std::array<std::int64_t, 3>,
               int, std::vector<std::tuple<int, int, Offsets>>,
               std::vector<std::tuple<int, std::int64_t, std::int64_t, std::int64_t>>>;

std::vector<msf::FlatFootprint> footprint(const std::vector<Part>& parts) {
  std::vector<msf::FlatFootprint> result;
  for (const auto& [lead, low, span, buffers, steps, rows] : parts) {
    auto& part = result.emplace_back(msf::FlatFootprint{lead, low, span, buffers, {}, {}});
    for (const auto& [from, to, shifts] : steps) part.steps.push_back({from, to, shifts});
    for (const auto& [buffer, z, y, x] : rows) part.rows.push_back({buffer, z, y, x});
  }
  return result;
}

void bind_morphology(py::module_& m) {
  using Sizes = std::vector<std::int64_t>;
  m.def(
      "extremes",
      [](const msf::Array& image, const Sizes& shape, const std::vector<Part>& parts, int border,
         const msf::Array& cval, int kind, const std::optional<msf::Array>& base,
         const msf::MutableArray& out) {
        msf::extremes(image, shape, footprint(parts), static_cast<msf::BorderMode>(border), cval,
                      static_cast<msf::Extremes>(kind), base ? &*base : nullptr, out);
      },
      NoGil());
  m.def(
      "binary_extremes",
      [](const msf::Array& mask, const Sizes& shape, const std::vector<Part>& parts, bool any,
         bool border, const msf::MutableArray& out) {
        msf::binary_extremes(mask, shape, footprint(parts), any, border, out);
      },
      NoGil());
}

// Half weights and whether they are odd, by axis.
std::vector<msf::Taps> taps(const std::vector<std::pair<std::vector<double>, bool>>& kernels) {
  std::vector<msf::Taps> all;
  for (const auto& [half, odd] : kernels) all.push_back({half, odd});
  return all;
}

void bind_stencil(py::module_& m) {
  using Kernels = std::vector<std::pair<std::vector<double>, bool>>;
  m.def(
      "separable_filter",
      [](const msf::Array& image, double scale, const Kernels& smooth, const Kernels& derive,
         const std::vector<int>& terms, bool magnitude, double norm, const std::vector<int>& modes,
         double cval, bool surround, const msf::MutableArray& out) {
        msf::Separable filter{taps(smooth), taps(derive), terms,    magnitude, norm,
                              {},           cval,         surround, surround};
        for (const int mode : modes) filter.border.push_back(static_cast<msf::BorderMode>(mode));
        msf::separable_filter(image, scale, filter, out);
      },
      NoGil());
  m.def("laplace", &msf::laplace, NoGil());
  m.def("cross_difference", &msf::cross_difference, NoGil());
  m.def("clip_to_mask", &msf::clip_to_mask, NoGil());
  m.def("zero_crossings", &msf::zero_crossings, NoGil());
}

void bind_canny(py::module_& m) {
  m.def(
      "canny_crossings",
      [](const msf::Array& smooth, const std::vector<double>& per_mm, double low, double high,
         const std::optional<msf::Array>& inside, const msf::MutableArray& out) {
        msf::canny_crossings(smooth, per_mm, low, high, inside ? &*inside : nullptr, out);
      },
      NoGil());
  m.def("canny_magnitude", &msf::canny_magnitude, NoGil());
  using msf::CannyPlan;
  using Weights = std::vector<double>;
  py::class_<CannyPlan>(m, "CannyPlan", py::module_local())
      .def(py::init([](std::int64_t rows, std::int64_t columns, bool float32, double scale,
                       Weights down, Weights across, int mode, double cval,
                       std::array<double, 2> per_step) {
        return msf::canny_plan(rows, columns, float32,
                               {scale, std::move(down), std::move(across),
                                static_cast<msf::BorderMode>(mode), cval, per_step});
      }))
      .def(py::init(&msf::canny_opencv_plan))
      .def(
          "edges",
          [](CannyPlan& plan, const msf::Array& image, const std::optional<msf::Array>& mask,
             double low, double high, const msf::MutableArray& out) {
            plan.edges(image, mask ? &*mask : nullptr, low, high, out);
          },
          NoGil())
      .def(
          "magnitude",
          [](CannyPlan& plan, const msf::Array& image, const std::optional<msf::Array>& mask,
             const msf::MutableArray& out) { plan.magnitude(image, mask ? &*mask : nullptr, out); },
          NoGil());
}

void bind_region(py::module_& m) {
  using msf::Region;
  // Local: the tests import several builds of the core into one process.
  py::class_<Region>(m, "Region", py::module_local())
      .def(py::init<const msf::Array&, std::vector<std::int64_t>, std::int64_t>(),
           py::keep_alive<1, 2>(), NoGil())
      .def("reset", &Region::reset, NoGil())
      .def("widen", &Region::widen, NoGil())
      .def("grow", &Region::grow, NoGil())
      .def("grow_breadth_first", &Region::grow_breadth_first, NoGil())
      .def("holds", &Region::holds, NoGil())
      .def("moments",
           [](Region& region) {
             msf::Moments m;
             {
               py::gil_scoped_release nogil;
               m = region.moments();
             }
             return py::make_tuple(m.count, m.sum, m.sum_of_squares);
           })
      .def("write_mask", &Region::write_mask, NoGil())
      .def("paint", &Region::paint, NoGil());
}

// Hands a result whose size only the kernel knows to NumPy without a copy.
template <class T>
py::array_t<T> to_numpy(std::vector<T>&& values) {
  auto* const kept = new std::vector<T>(std::move(values));
  const py::capsule owner(kept, [](void* p) { delete static_cast<std::vector<T>*>(p); });
  return py::array_t<T>(static_cast<py::ssize_t>(kept->size()), kept->data(), owner);
}

void bind_threshold_explorer(py::module_& m) {
  m.def("threshold_order", [](const msf::Array& image, std::int64_t seed, int connectivity,
                              bool brighter, const msf::MutableArray& order) {
    msf::Levels levels;
    {
      const py::gil_scoped_release nogil;
      levels = msf::threshold_order(image, seed, connectivity, brighter, order);
    }
    return py::make_tuple(to_numpy(std::move(levels.voxels)), to_numpy(std::move(levels.ends)));
  });
  m.def("fill_voxels", &msf::fill_voxels, NoGil());
}

void bind_region_growing(py::module_& m) {
  m.def("seeded_region_growing", &msf::seeded_region_growing, NoGil());
  m.def(
      "region_growing",
      [](const msf::Array& image, const msf::Array& seeds, const msf::Array& ends,
         const msf::Array& values, int connectivity, std::uintptr_t criterion,
         std::int64_t max_voxels, std::int64_t max_growth, const msf::MutableArray& labels) {
        return msf::region_growing(image, seeds, ends, values, connectivity,
                                   reinterpret_cast<msf::Criterion>(criterion),
                                   {max_voxels, max_growth}, labels);
      },
      NoGil());
}

void bind_watershed(py::module_& m) {
  m.def("watershed", &msf::watershed, NoGil());
  m.def("watershed_compact", &msf::watershed_compact, NoGil());
}

// Modes by their place in BoundaryMode.
void bind_boundaries(py::module_& m) {
  m.def(
      "find_boundaries",
      [](const msf::Array& labels, int connectivity, int mode,
         const std::optional<msf::Array>& background, const msf::MutableArray& out) {
        msf::find_boundaries(labels, connectivity, static_cast<msf::BoundaryMode>(mode),
                             background ? &*background : nullptr, out);
      },
      NoGil());
  m.def("find_subpixel_boundaries", &msf::find_subpixel_boundaries, NoGil());
}

void bind_distance(py::module_& m) {
  using Sizes = std::vector<double>;
  using Multiples = std::vector<std::int64_t>;
  m.def(
      "distance_transform",
      [](const msf::Array& mask, const Sizes& sizes, const Multiples& multiples, double unit,
         const msf::MutableArray& out) {
        msf::distance_transform(mask, {sizes, multiples, unit}, out);
      },
      NoGil());
  m.def(
      "signed_distance",
      [](const msf::Array& mask, const Sizes& sizes, const Multiples& multiples, double unit,
         const msf::MutableArray& out) {
        msf::signed_distance(mask, {sizes, multiples, unit}, out);
      },
      NoGil());
  m.def(
      "expand_labels",
      [](const msf::Array& background, const msf::Array& labels, const Sizes& sizes,
         const Multiples& multiples, double unit, double distance, const msf::MutableArray& out) {
        msf::expand_labels(background, labels, {sizes, multiples, unit}, distance, out);
      },
      NoGil());
  m.def(
      "nearest_background",
      [](const msf::Array& mask, const Sizes& sizes, const Multiples& multiples, double unit,
         const std::optional<msf::MutableArray>& distances, const msf::MutableArray& indices) {
        msf::nearest_background(mask, {sizes, multiples, unit}, distances ? &*distances : nullptr,
                                indices);
      },
      NoGil());
}

void bind_watershed_hierarchy(py::module_& m) {
  m.def("merge_basins", [](const msf::Array& image, const msf::Array& labels, std::int64_t basins,
                           int connectivity) {
    msf::Merges merges;
    {
      const py::gil_scoped_release nogil;
      merges = msf::merge_basins(image, labels, basins, connectivity);
    }
    return py::make_tuple(to_numpy(std::move(merges.first)), to_numpy(std::move(merges.second)),
                          to_numpy(std::move(merges.height)));
  });
  m.def("measure_basins", &msf::measure_basins, NoGil());
  m.def(
      "extinguish",
      [](const msf::Array& first, const msf::Array& second, const msf::Array& height, int attribute,
         const msf::Array& depths, const msf::Array& areas, const msf::MutableArray& saliency,
         const msf::MutableArray& extinction) {
        msf::extinguish(first, second, height, static_cast<msf::Attribute>(attribute), depths,
                        areas, saliency, extinction);
      },
      NoGil());
  m.def("merge_labels", &msf::merge_labels, NoGil());
  m.def("map_labels", &msf::map_labels, NoGil());
  m.def("map_minima", &msf::map_minima, NoGil());
}

void bind_minima(py::module_& m) {
  m.def("reconstruction", &msf::reconstruction, NoGil());
  m.def("local_minima", &msf::local_minima, NoGil());
  m.def(
      "watershed_immersion",
      [](const msf::Array& image, int connectivity, const std::optional<msf::Array>& mask,
         bool lines, const msf::MutableArray& labels) {
        return msf::watershed_immersion(image, connectivity, mask ? &*mask : nullptr, lines,
                                        labels);
      },
      NoGil());
}

}  // namespace

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  bind_threads(m);
  bind_components(m);
  bind_label(m);
  bind_threshold(m);
  bind_histogram(m);
  bind_local(m);
  bind_morphology(m);
  bind_stencil(m);
  bind_canny(m);
  bind_region(m);
  bind_region_growing(m);
  bind_threshold_explorer(m);
  bind_watershed(m);
  bind_distance(m);
  bind_boundaries(m);
  bind_minima(m);
  bind_watershed_hierarchy(m);
  msf::bind_edge_flow(m);
  msf::bind_graphs(m);
  msf::bind_paths(m);
  msf::bind_contours(m);
}
