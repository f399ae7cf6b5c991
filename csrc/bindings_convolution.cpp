// What Python sees of convolutions; with bindings.cpp the only file that knows Python.
#include <array>
#include <cstring>
#include <memory>
#include <optional>

#include "bindings.hpp"
#include "convolution.hpp"

namespace msf {

void bind_convolution(const Scope& m) {
  // channels: (in, out); sizes: kernel, stride, zeros before and after, dilation, pooling window.
  using Sizes = std::array<Size3, 6>;
  const auto spec_of = [](const std::array<std::int64_t, 2>& channels, const Sizes& s,
                          int activation, float slope, int pooling) {
    return ConvolutionSpec{channels[0], channels[1],
                           s[0],        s[1],
                           s[2],        s[3],
                           s[4],        static_cast<Activation>(activation),
                           slope,       static_cast<Pooling>(pooling),
                           s[5]};
  };
  // size: of the input, for the choice of an algorithm; algorithm: by its place in Algorithm.
  m.def("convolution", [=](const std::array<std::int64_t, 2>& channels, const Sizes& sizes,
                           int activation, float slope, int pooling, const Size3& size,
                           int algorithm, const Array& weight, const Array& bias) {
    const ConvolutionSpec spec = spec_of(channels, sizes, activation, slope, pooling);
    const auto wanted = static_cast<Algorithm>(algorithm);
    return make_convolution(spec, weight.as<float>(), bias.as<float>(),
                            wanted == Algorithm::automatic ? choose_algorithm(spec, size) : wanted);
  });
  m.def("convolution_algorithm",
        [=](const std::array<std::int64_t, 2>& channels, const Sizes& sizes, const Size3& size) {
          return static_cast<int>(choose_algorithm(spec_of(channels, sizes, 0, 0, 0), size));
        });
  py::class_<Convolution>(m, "Convolution", py::module_local())
      .def_property_readonly("packed_bytes", &Convolution::packed_bytes)
      .def("run",
           [](const Convolution& layer, const Array& in, bool channels_last,
              const std::optional<MutableArray>& full, const std::optional<MutableArray>& pooled,
              const std::optional<MutableArray>& indices) {
             const auto view = [&](const std::optional<MutableArray>& a) {
               return a ? features(*a, channels_last) : Features{};
             };
             const Features full_view = view(full), pooled_view = view(pooled);
             layer.run(features(in, channels_last),
                       {full ? &full_view : nullptr, pooled ? &pooled_view : nullptr,
                        indices ? indices->as<std::int64_t>() : nullptr, channels_last});
           });
  m.def("same_bytes", [](const Array& a, const Array& b) {
    const auto bytes = static_cast<std::size_t>(a.size() * item_size(a.dtype));
    return a.dtype == b.dtype && a.size() == b.size() && !std::memcmp(a.data, b.data, bytes);
  });
}

}  // namespace msf
