// What Python sees of the core: all that has no file of its own family (bindings_*.cpp). Kernels
// know nothing of Python.
#include "bindings.hpp"

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "isa.hpp"
#include "kept_memory.hpp"
#include "kernels.hpp"
#include "parallel.hpp"
#include "worker_ids.hpp"

namespace msf {

// A flat footprint as nested tuples, see medseg_fast/_footprint.py.
template <>
struct From<FlatFootprint::Step> {
  static bool read(PyObject* object, FlatFootprint::Step& step) {
    return read_tuple(object, step.from, step.to, step.shifts);
  }
};
template <>
struct From<FlatFootprint::Row> {
  static bool read(PyObject* object, FlatFootprint::Row& row) {
    return read_tuple(object, row.buffer, row.z, row.y, row.x);
  }
};
template <>
struct From<FlatFootprint> {
  static bool read(PyObject* object, FlatFootprint& part) {
    return read_tuple(object, part.lead, part.low, part.span, part.buffers, part.steps, part.rows);
  }
};

// A half of the weights and whether the other is its negative.
template <>
struct From<Taps> {
  static bool read(PyObject* object, Taps& taps) { return read_tuple(object, taps.half, taps.odd); }
};

template <>
struct From<VoxelSize> {
  static bool read(PyObject* object, VoxelSize& voxel) {
    return read_tuple(object, voxel.size, voxel.multiple, voxel.unit);
  }
};

// Memory that becomes an array of bytes, and whether they are zeros.
struct Block {
  Owner owner;
  std::size_t bytes;
  bool zeros;
};
static Ref to_python(Block&& block) {
  void* const data = block.owner.get();
  Ref array = new_array(std::move(block.owner), data, block.bytes, 'u', 1);
  return tuple(std::move(array), block.zeros);
}

static Ref to_python(const Peaks& p) { return tuple(p.passes, p.count, p.first, p.second); }
static Ref to_python(const Moments& m) { return tuple(m.count, m.sum, m.sum_of_squares); }
static Ref to_python(Levels&& levels) {
  return tuple(std::move(levels.voxels), std::move(levels.ends));
}
static Ref to_python(Merges&& merges) {
  return tuple(std::move(merges.first), std::move(merges.second), std::move(merges.height));
}

namespace {

// Python runs signal handlers on its main thread alone, so the others need not wait for the GIL.
void raise_if_interrupted() {
#ifdef __linux__
  if (syscall(SYS_gettid) != getpid()) return;
#endif
  const PyGILState_STATE state = PyGILState_Ensure();
  const bool interrupted = PyErr_Occurred() || PyErr_CheckSignals() != 0;
  PyGILState_Release(state);
  if (interrupted) throw PythonError{};  // this thread's, so still noted when its call ends
}

void bind_threads(const Scope& m) {
  set_interrupt_hook(raise_if_interrupted);
  m.set("isa", isa());
  m.set("compiler", __VERSION__);
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads);
  m.def("set_thread_override", &set_thread_override);
  // The address of a function; 0: none.
  m.def("set_crew", [](std::uintptr_t crew) {
    return reinterpret_cast<std::uintptr_t>(set_crew(reinterpret_cast<Crew>(crew)));
  });
  m.def("worker_ids", &worker_ids);
  m.def("fix_workers", &fix_workers);
  m.def("busy_tasks", [](const std::vector<double>& seconds, std::optional<std::int64_t> fail_at,
                         std::optional<bool> nested) {
    return busy_tasks(seconds, fail_at.value_or(-1), nested.value_or(false));
  });
}

void bind_memory(const Scope& m) {
  m.def("take_memory", [](std::uint64_t bytes) {
    const Memory memory = take_memory(bytes);
    const auto give = [](void* p) { give_memory(static_cast<std::byte*>(p)); };
    return Block{{memory.data, give}, bytes, memory.zeros};
  });
  m.def("kept_limit", &kept_limit);
  m.def("set_kept_limit", &set_kept_limit);
  m.def("kept_bytes", &kept_bytes);
}

void bind_components(const Scope& m) {
  m.def("remove_small", &remove_small);
  m.def("largest_component", &largest_component);
  m.def("fill_holes", &fill_holes);
  m.def("label_sizes", &label_sizes);
  m.def("keep_labels", &keep_labels);
  m.def("hysteresis", &hysteresis);
  m.def("clear_border", &clear_border);
}

// What label_components leaves until the caller has allocated the labels.
struct LabelledRuns {
  std::shared_ptr<const Components> components;
};

void bind_label(const Scope& m) {
  m.def("label_components", [](const Array& image, const Array* background, int connectivity,
                               bool wide) {
    return std::make_unique<LabelledRuns>(label_components(image, background, connectivity, wide));
  });
  m.add_class<LabelledRuns>("medseg_fast._core.LabelledRuns")
      .def("count", [](LabelledRuns& runs) { return count_components(*runs.components); })
      .def("write", [](LabelledRuns& runs, const MutableArray& labels, bool blank) {
        write_labels(*runs.components, labels, blank);
      });
}

void bind_threshold(const Scope& m) {
  m.def("in_range", &in_range);
  m.def("value_range", &value_range);
  m.def("count_values", &count_values);
  m.def("count_bins", &count_bins);
  m.def("sum_integers", &sum_integers);
  m.def("sum_floats", &sum_floats);
  m.def("sum_above", &sum_above);
  m.def("multi_otsu", &multi_otsu);
  m.def("smooth_to_two_peaks", &smooth_to_two_peaks);
  m.def("local_mean", &local_mean);
  m.def("local_gaussian", &local_gaussian);
  m.def("local_median", &local_median);
  m.def("local_mean_std", &local_mean_std);
}

void bind_morphology(const Scope& m) {
  m.def("extremes", &extremes);
  m.def("binary_extremes", &binary_extremes);
}

void bind_stencil(const Scope& m) {
  using AllTaps = std::vector<Taps>;
  m.def("separable_filter", [](const Array& image, double scale, const AllTaps& smooth,
                               const AllTaps& derive, const std::vector<int>& terms, bool magnitude,
                               double over, const std::vector<BorderMode>& border, double cval,
                               bool surround, const MutableArray& out) {
    separable_filter(image, scale,
                     {smooth, derive, terms, magnitude, over, border, cval, surround, surround},
                     out);
  });
  m.def("laplace", &laplace);
  m.def("cross_difference", &cross_difference);
  m.def("clip_to_mask", &clip_to_mask);
  m.def("zero_crossings", &zero_crossings);
}

void bind_canny(const Scope& m) {
  m.def("canny_crossings", &canny_crossings);
  m.def("canny_magnitude", &canny_magnitude);
  using Weights = std::vector<double>;
  m.def("canny_plan", [](std::int64_t rows, std::int64_t columns, bool float32, double scale,
                         const Weights& down, const Weights& across, BorderMode border, double cval,
                         const std::array<double, 2>& per_step) {
    return canny_plan(rows, columns, float32, {scale, down, across, border, cval, per_step});
  });
  m.def("canny_opencv_plan", &canny_opencv_plan);
  m.add_class<CannyPlan>("medseg_fast._core.CannyPlan")
      .def<&CannyPlan::edges>("edges")
      .def<&CannyPlan::magnitude>("magnitude");
}

void bind_region(const Scope& m) {
  m.def("region",
        [](const Array& image, const std::vector<std::int64_t>& radius, std::int64_t border) {
          return std::make_unique<Region>(image, radius, border);
        },
        {0});
  m.add_class<Region>("medseg_fast._core.Region")
      .def<&Region::reset>("reset")
      .def<&Region::widen>("widen")
      .def<&Region::grow>("grow")
      .def<&Region::grow_breadth_first>("grow_breadth_first")
      .def<&Region::holds>("holds")
      .def<&Region::moments>("moments")
      .def<&Region::write_mask>("write_mask")
      .def<&Region::paint>("paint");
  m.def("seeded_region_growing", &seeded_region_growing);
  m.def("region_growing", [](const Array& image, const Array& seeds, const Array& ends,
                             const Array& values, int connectivity, std::uintptr_t criterion,
                             std::int64_t max_voxels, std::int64_t max_growth,
                             const MutableArray& labels) {
    return region_growing(image, seeds, ends, values, connectivity,
                          reinterpret_cast<Criterion>(criterion), {max_voxels, max_growth}, labels);
  });
  m.def("threshold_order", &threshold_order);
  m.def("fill_voxels", &fill_voxels);
}

void bind_watershed(const Scope& m) {
  m.def("watershed", &watershed);
  m.def("watershed_compact", &watershed_compact);
  m.def("watershed_immersion", &watershed_immersion);
  m.def("reconstruction", &reconstruction);
  m.def("local_minima", &local_minima);
  m.def("merge_basins", &merge_basins);
  m.def("measure_basins", &measure_basins);
  m.def("extinguish", &extinguish);
  m.def("merge_labels", &merge_labels);
  m.def("map_labels", &map_labels);
  m.def("map_minima", &map_minima);
}

void bind_labels(const Scope& m) {
  m.def("find_boundaries", &find_boundaries);
  m.def("find_subpixel_boundaries", &find_subpixel_boundaries);
  m.def("distance_transform", &distance_transform);
  m.def("signed_distance", &signed_distance);
  m.def("expand_labels", &expand_labels);
  m.def("nearest_background", &nearest_background);
}

}  // namespace

void bind_all(const Scope& m) {
  bind_threads(m);
  bind_memory(m);
  bind_components(m);
  bind_label(m);
  bind_threshold(m);
  bind_morphology(m);
  bind_stencil(m);
  bind_canny(m);
  bind_region(m);
  bind_watershed(m);
  bind_labels(m);
  bind_edge_flow(m);
  bind_graphs(m);
  bind_paths(m);
  bind_augment(m);
  bind_contours(m);
  bind_stream(m);
  bind_convolution(m);
  bind_detection(m);
  bind_measure(m);
  bind_networks(m);
  bind_plan(m);
}

}  // namespace msf
