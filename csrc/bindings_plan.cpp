// What Python sees of plans.
#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "bindings.hpp"
#include "bindings_convolution.hpp"
#include "plan.hpp"

namespace msf {

// (slot, bytes, whether bfloat16, batch, channels, size, batch stride, channel stride, strides)
template <>
struct From<View> {
  static bool read(PyObject* object, View& view) {
    bool narrow = false;
    Features& f = view.features;
    if (!read_tuple(object, view.slot, view.offset, narrow, f.batch, f.channels, f.size,
                    f.batch_stride, f.channel_stride, f.stride))
      return false;
    f.dtype = narrow ? DType::bfloat16 : DType::float32;
    return true;
  }
};

// (scale, shift, slopes, second operand, activation, a, b)
template <>
struct From<PointwiseSpec> {
  static bool read(PyObject* object, PointwiseSpec& spec) {
    return read_tuple(object, spec.scale, spec.shift, spec.slopes, spec.with, spec.activation,
                      spec.a, spec.b);
  }
};

template <>
struct From<Stretch> {
  static bool read(PyObject* object, Stretch& stretch) {
    return read_tuple(object, stretch.low, stretch.high, stretch.far);
  }
};

// (scale, low, high)
template <>
struct From<Quantisation> {
  static bool read(PyObject* object, Quantisation& steps) {
    return read_tuple(object, steps.scale, steps.low, steps.high);
  }
};

void bind_plan(const Scope& m) {
  m.def("plan", []() { return std::make_unique<Plan>(); });
  m.add_class<Plan>("medseg_fast._core.Plan")
      .def("packed_bytes", [](Plan& plan) { return plan.packed_bytes(); })
      .def("count", [](Plan& plan) { return plan.count(); })
      .def("run",
           [](Plan& plan, std::int64_t begin, std::int64_t end, std::int64_t threads,
              const std::vector<Array>& slots) {
             plan.run(begin, end, static_cast<int>(threads), slots);
           })
      .def("convolution",
           [](Plan& plan, const Channels& channels, const Sizes& sizes, Activation activation,
              float slope, Pooling pooling, Algorithm algorithm, const Array& weight,
              const Array& bias, const std::vector<View>& in, const std::optional<View>& full,
              const std::optional<View>& pooled, const std::optional<View>& indices,
              const std::vector<std::int64_t>& phases) {
             const ConvolutionSpec spec = spec_of(channels, sizes, activation, slope, pooling);
             plan.convolution(spec, weight, bias, algorithm, in, full, pooled, indices, phases);
           })
      .def("convolution8",
           [](Plan& plan, const Channels& channels, const Sizes& sizes, Activation activation,
              float slope, Pooling pooling, const Quantisation& steps, const Array& weight,
              const Array& bias, const std::vector<View>& in, const std::optional<View>& full,
              const std::optional<View>& pooled, const std::optional<View>& indices,
              const std::vector<std::int64_t>& phases) {
             const ConvolutionSpec spec = spec_of(channels, sizes, activation, slope, pooling);
             plan.convolution(spec, weight, bias, Algorithm::direct, in, full, pooled, indices,
                              phases, steps);
           })
      .def<&Plan::pointwise>("pointwise")
      .def("pool",
           [](Plan& plan, const std::array<Size3, 4>& s, bool maximum, bool exclude_padding,
              const View& in, const View& out, const std::optional<View>& indices) {
             plan.pool({s[0], s[1], s[2], s[3], maximum, exclude_padding}, in, out, indices);
           })
      .def<&Plan::unpool>("unpool")
      .def<&Plan::resize>("resize")
      .def<&Plan::gather>("gather")
      .def<&Plan::adaptive_means>("adaptive_means")
      .def<&Plan::normalise>("normalise")
      .def<&Plan::softmax>("softmax")
      .def<&Plan::attention>("attention");
}

}  // namespace msf
