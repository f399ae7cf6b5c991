// What Python sees of convolutions.
#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>

#include "bindings.hpp"
#include "bindings_convolution.hpp"
#include "convolution.hpp"
#include "parallel.hpp"

namespace msf {

void bind_convolution(const Scope& m) {
  // size: of the input, for the choice of an algorithm; algorithm: by its place in Algorithm.
  m.def("convolution",
        [](const Channels& channels, const Sizes& sizes, Activation activation, float slope,
           Pooling pooling, Algorithm algorithm, const Array& weight, const Array& bias) {
          return make_convolution(spec_of(channels, sizes, activation, slope, pooling),
                                  weight.as<float>(), bias.as<float>(), algorithm);
        });
  // In 8-bit integers; steps: as of Quantisation.
  m.def("convolution8", [](const Channels& channels, const Sizes& sizes, Activation activation,
                           float slope, Pooling pooling, bool tiled, const Array& weight,
                           const Array& bias, const std::array<float, 3>& steps) {
    return make_int8(spec_of(channels, sizes, activation, slope, pooling), weight.as<float>(),
                     bias.as<float>(), {steps[0], steps[1], steps[2]}, tiled);
  });
  // size: of the input; narrow: whether products may be of bfloat16; planar: see convolution.hpp.
  m.def("convolution_algorithm", [](const Channels& channels, const Sizes& sizes, const Size3& size,
                                    bool narrow, bool planar) {
    const ConvolutionSpec spec = spec_of(channels, sizes, {}, 0, {});
    return static_cast<int>(choose_algorithm(spec, size, narrow, planar));
  });
  m.def("convolution_weight_gradient",
        [](const Sizes& sizes, const Array& in, const Array& gradient, bool channels_last,
           const MutableArray& weight, const std::optional<MutableArray>& bias) {
          const Features from = features(in, channels_last), by = features(gradient, channels_last);
          convolution_weight_gradient(spec_of({from.channels, by.channels}, sizes, {}, 0, {}), from,
                                      by, weight.as<float>(), bias ? bias->as<float>() : nullptr);
        });
  m.def("have_tiles", &have_tiles);
  m.def("have_byte_tiles", &have_byte_tiles);
  m.def("have_byte_products", &have_byte_products);
  m.add_class<Convolution>("medseg_fast._core.Convolution")
      .def("packed_bytes", [](Convolution& layer) { return layer.packed_bytes(); })
      .def("run",
           [](Convolution& layer, const Array& in, bool channels_last,
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
    if (a.dtype != b.dtype || a.size() != b.size()) return false;
    std::atomic<bool> same = true;
    const auto *left = a.as<std::byte>(), *right = b.as<std::byte>();
    parallel_for(a.size() * item_size(a.dtype), 1 << 18, [&](std::int64_t begin, std::int64_t end) {
      if (same && std::memcmp(left + begin, right + begin, static_cast<std::size_t>(end - begin)))
        same = false;
    });
    return same.load();
  });
}

}  // namespace msf
