// Convolution of a batch of features with bias, activation and pooling in one pass.
//
// A library of its own, free of Python: describe a layer, pack its weights once, run it on views of
// any strides (NCHW, channels-last, a slice of a wider buffer), as often as wanted and on any
// thread. float32 arithmetic; features are float32 or bfloat16, converted where they are read and
// written.
//
// Layers run block by block of their output, one task each. A task packs the block's input with its
// padding, channels last, convolves it for a few output channels at a time and finishes those while
// they are in cache: bias, activation, pooling and the writes in the destination's order. Hence no
// intermediate map is ever in memory, borders cost no branch in the kernels, and results do not
// depend on the number of threads.
//
// The algorithms: direct (conv_direct.cpp), any kernel, stride and dilation, which takes few
// channels in planes along rows, by Winograd's F(4, 3) along columns if told so (conv_planar.cpp),
// and many channels of single pixels to few one pixel after another (conv_dots.cpp);
// Winograd's F(m x m, r x r) (conv_winograd.cpp), for rows and columns of 3 or of 5 taps and stride
// 1, in float32 or in 16-bit integers; and direct with weights and features rounded to bfloat16, or
// to 8-bit integers, any kernel as well: on AMX's tiles (conv_amx.cpp), or in pairs and fours
// (conv_narrow.cpp).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "array.hpp"

namespace msf {

using Size3 = std::array<std::int64_t, 3>;  // planes, rows, columns; an image has one plane

// A batch of features in any order of axes. Strides count elements.
struct Features {
  const void* data = nullptr;
  DType dtype = DType::float32;  // or bfloat16
  std::int64_t batch = 0, channels = 0;
  Size3 size{};
  std::int64_t batch_stride = 0, channel_stride = 0;
  Size3 stride{};
  // The channels after these, of a map of the same batch and size. Convolutions' inputs alone may
  // have it: so they read a concatenation that is nowhere in memory.
  const Features* more = nullptr;

  std::int64_t offset(std::int64_t n, std::int64_t c, const Size3& at) const {
    return n * batch_stride + c * channel_stride + at[0] * stride[0] + at[1] * stride[1] +
           at[2] * stride[2];
  }
};

// The view of contiguous features (N, C, [D,] H, W), or (N, [D,] H, W, C) if `channels_last`.
Features features(const Array& array, bool channels_last);

enum class Activation : std::uint8_t { none, relu, leaky_relu, elu, sigmoid, tanh };
enum class Pooling : std::uint8_t { none, max, average };
enum class Algorithm : std::uint8_t {
  automatic,
  direct,
  winograd2,
  winograd4,
  tiled,
  pairs,
  fixed,   // winograd4 in 16-bit integers
  lines,   // Winograd's F(4, 3) along columns; direct, where features are not in planes
  fixed6,  // Winograd's F(6 x 6, 3 x 3) in 16-bit integers
};

struct ConvolutionSpec {
  std::int64_t in_channels, out_channels;
  Size3 kernel, stride, before, after, dilation;  // before, after: zeros around the input
  Activation activation = Activation::none;
  float slope = 0;  // leaky ReLU below 0, ELU's alpha, what tanh is multiplied by
  Pooling pooling = Pooling::none;
  Size3 pool{1, 1, 1};  // window and step; what does not fill a window is left out

  Size3 full_size(const Size3& in) const;
  Size3 pooled_size(const Size3& in) const;
};

// Where results go; what is null is not wanted.
struct ConvolutionOutputs {
  const Features* full = nullptr;    // before pooling
  const Features* pooled = nullptr;  // without pooling, unused
  std::int64_t* indices = nullptr;  // of maxima in the full map, (N, C, [D,] H, W) or channels last
  bool indices_channels_last = false;
  // The next channels after full's are written into it as well, so many elements further, and so
  // on: the pixels between its own. full has a multiple of 32 channels then.
  const std::vector<std::int64_t>* phases = nullptr;
};

// A layer with packed weights. Immutable, so threads may share it.
class Convolution {
 public:
  virtual ~Convolution() = default;
  virtual void run(const Features& in, const ConvolutionOutputs& out) const = 0;
  virtual std::int64_t packed_bytes() const = 0;
};

// How features become integers: multiples of `scale` from `low` to `high` of them.
struct Quantisation {
  float scale = 0, low = -127, high = 127;
};

// Whether an algorithm can do this layer.
bool carries(Algorithm algorithm, const ConvolutionSpec& spec);

// What runs fastest for a layer on features of this size; float32 arithmetic, if `narrow` is false;
// `planar`: from and to contiguous planes.
Algorithm choose_algorithm(const ConvolutionSpec& spec, const Size3& in, bool narrow = false,
                           bool planar = false);

// Whether CPU and system have AMX's tiles, and multiply bfloat16, or bytes, in them. Where not,
// what runs on tiles is slow: they are emulated.
bool have_tiles();
bool have_byte_tiles();
// Whether the CPU multiplies and adds up pairs of bfloat16, in vectors. Where not, Algorithm::pairs
// is slow as well.
bool have_pair_products();
// Whether it does so with four bytes, and with pairs of 16-bit integers.
bool have_byte_products();

// Products of features rounded so with weights of 8 bits, on tiles or not. As make_convolution
// else.
std::unique_ptr<Convolution> make_int8(const ConvolutionSpec& spec, const float* weight,
                                       const float* bias, const Quantisation& steps, bool tiled);

// weight: (out, in, planes, rows, columns), contiguous float32; bias: one a channel, or null.
std::unique_ptr<Convolution> make_convolution(const ConvolutionSpec& spec, const float* weight,
                                              const float* bias, Algorithm algorithm);

// weight (out, in, planes, rows, columns) and bias (out, or null) = the gradients of weights and
// bias, given that of the output before activation. Rows and columns of 3 or of 5 taps each, stride
// and dilation 1.
void convolution_weight_gradient(const ConvolutionSpec& spec, const Features& in,
                                 const Features& gradient, float* weight, float* bias);

}  // namespace msf
