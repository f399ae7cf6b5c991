// What both algorithms do around their sums: pack a block's input, finish and write its output.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "convolution.hpp"

namespace msf {

// Consecutive operands of a sum: a row's values `offset` elements after the row's address.
struct Run {
  std::int64_t offset, length;
};

// A box of pixels, which may reach beyond the features: at most `size` from `at` on.
struct Box {
  Size3 at, size;
  std::int64_t pixels() const { return size[0] * size[1] * size[2]; }
};

// f(map, c, here) for each map that holds some of `count` channels from c0 on: `here` of them are
// its own from c on.
template <class F>
void for_each_map(const Features& in, std::int64_t c0, std::int64_t count, F&& f) {
  for (const Features* map = &in; count > 0; map = map->more) {
    const std::int64_t here = map->more ? std::min(map->channels - c0, count) : count;
    if (here > 0) {
      f(*map, c0, here);
      count -= here;
    }
    c0 = std::max<std::int64_t>(c0 - map->channels, 0);
  }
}

// How features are packed: as floats or bfloat16 (conv_lanes.hpp), or integers (conv_operands.hpp).
template <class To>
struct Packing;

// Copies `count` channels from c0 on of the box to `to`, `pitch` values a pixel, channels last;
// zeros outside. A pixel's values beyond the channels, up to a whole vector, become zeros as well
// if they fit the pitch.
template <class To>
void pack_box(const Features& in, std::int64_t n, std::int64_t c0, std::int64_t count,
              const Box& box, To* to, std::int64_t pitch, const Packing<To>& packing = {});

inline std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

// An output cut into blocks, and the inputs that a block is made of.
struct Blocks {
  Size3 size, count, packed;  // of a block, blocks along an axis, a block's input
  Blocks(const ConvolutionSpec& spec, const Size3& full, const Size3& size);
  std::int64_t total() const { return count[0] * count[1] * count[2]; }
  std::int64_t pixels() const { return size[0] * size[1] * size[2]; }
  Box output(std::int64_t b) const;
  Box input(const ConvolutionSpec& spec, const Box& output) const;

  // Where the inputs of each pixel of a block begin, `pitch` values a pixel; the first pixel's
  // again up to `rows`.
  template <class T>
  std::vector<const T*> addresses(const ConvolutionSpec& spec, const T* packed_input,
                                  std::int64_t pitch, std::int64_t rows) const {
    std::vector<const T*> found(static_cast<std::size_t>(rows), packed_input);
    auto next = found.begin();
    for (std::int64_t z = 0; z < size[0]; ++z)
      for (std::int64_t y = 0; y < size[1]; ++y)
        for (std::int64_t x = 0; x < size[2]; ++x)
          *next++ =
              packed_input + ((z * spec.stride[0] * packed[1] + y * spec.stride[1]) * packed[2] +
                              x * spec.stride[2]) *
                                 pitch;
    return found;
  }
};

// A block of `pixels` of the output, about: as wide as fits, all of a width, of whole windows.
Size3 block_of(const ConvolutionSpec& spec, const Size3& full, std::int64_t pixels);

// Where the inputs of a block's first pixel lie in its packed box, `length` values at each tap, of
// which a pixel has `pitch`; taps that touch are one run.
std::vector<Run> runs_in(const ConvolutionSpec& spec, const Size3& packed, std::int64_t pitch,
                         std::int64_t length);

// Part of a pixel's inputs, which is summed up for all pixels of a block before the next part: the
// weights of so many stay in the nearest cache but one meanwhile.
struct Portion {
  std::int64_t first = 0;  // inputs before
  std::vector<Run> runs;
};
std::vector<Portion> portions_of(const std::vector<Run>& runs);

// Bias, activation, pooling and writes of the sums of a panel of channels from c0 on.
struct Finish {
  const ConvolutionSpec& spec;
  const float* bias;  // a whole number of panels
  const ConvolutionOutputs& out;
  Size3 full;

  // sums: a panel of floats for each pixel of the box, which starts at a multiple of the pooling
  // window; changed. scratch: pixels() panels.
  void operator()(float* sums, float* scratch, std::int64_t n, std::int64_t c0,
                  const Box& box) const;
};

// The same of a row of one channel's values; there is room for whole vectors of them.
void activate_row(float* row, std::int64_t count, Activation activation, float slope);
// Writes it from pixel `at` on.
void write_channel(const float* row, std::int64_t count, const Features& to, std::int64_t n,
                   std::int64_t c, const Size3& at);

// Floats aligned for the widest vectors: a load across two cache lines counts twice.
struct AlignedDelete {
  void operator()(float* p) const { ::operator delete[](p, std::align_val_t{64}); }
};
using AlignedFloats = std::unique_ptr<float[], AlignedDelete>;
AlignedFloats aligned_floats(std::int64_t count);

// Room that a thread keeps for its tasks, aligned for vectors, grown when it must.
float* task_scratch(std::int64_t floats);
// The same for what several tasks share, which the thread that starts them keeps.
float* stage_scratch(std::int64_t floats);

// Cuts the work of all blocks into tasks: blocks x groups of panels, enough for all threads.
struct TaskGrid {
  std::int64_t blocks, panels, groups;
  TaskGrid(std::int64_t blocks, std::int64_t panels, std::int64_t least_panels);
  std::int64_t count() const { return blocks * groups; }
  // Group by group, so that threads share the weights that they stream.
  std::int64_t block(std::int64_t task) const { return task % blocks; }
  std::int64_t first_panel(std::int64_t task) const { return panels * (task / blocks) / groups; }
  std::int64_t last_panel(std::int64_t task) const { return panels * (task / blocks + 1) / groups; }
};

// See conv_planar.cpp.
class PlanarConvolution {
 public:
  PlanarConvolution(const ConvolutionSpec& spec, const float* weight, const float* bias,
                    bool lines);
  static bool worthwhile(const ConvolutionSpec& spec);
  static bool has_lines(const ConvolutionSpec& spec);
  static bool takes(const Features& in, const ConvolutionOutputs& out);
  void run(const Features& in, const ConvolutionOutputs& out) const;

 private:
  struct Block;
  void convolve_rows(const Block& block, const float* packed, float* scratch,
                     const ConvolutionOutputs& out, const Size3& full, std::int64_t n,
                     std::int64_t group, const Size3& at) const;
  void pack(const Features& in, std::int64_t n, std::int64_t c, std::int64_t count, const Size3& at,
            std::int64_t plane, const Block& block, float* to) const;

  ConvolutionSpec spec_;
  bool lines_;                         // by Winograd's algorithm along columns
  std::int64_t together_, taps_;       // output channels; what each sums up
  std::vector<float> weights_, bias_;  // for each group of output channels, for each tap
};

// See conv_dots.cpp.
class PixelDots {
 public:
  PixelDots(const ConvolutionSpec& spec, const float* weight, const float* bias);
  static bool worthwhile(const ConvolutionSpec& spec);
  static bool takes(const Features& in, const ConvolutionOutputs& out);
  void run(const Features& in, const ConvolutionOutputs& out) const;

 private:
  template <class T>
  void sum_row(const T* from, std::int64_t stride, std::int64_t count, float* rows) const;

  ConvolutionSpec spec_;
  std::int64_t pitch_;
  AlignedFloats weights_;  // of each output channel, whole vectors
  std::vector<float> bias_;
};

// lines: as of Algorithm::lines, if the layer has them.
std::unique_ptr<Convolution> make_direct(const ConvolutionSpec& spec, const float* weight,
                                         const float* bias, bool lines = false);
std::unique_ptr<Convolution> make_tiled(const ConvolutionSpec& spec, const float* weight,
                                        const float* bias);
std::unique_ptr<Convolution> make_tiled_bytes(const ConvolutionSpec& spec, const float* weight,
                                              const float* bias, const Quantisation& steps);
std::unique_ptr<Convolution> make_bytes(const ConvolutionSpec& spec, const float* weight,
                                        const float* bias, const Quantisation& steps);
std::unique_ptr<Convolution> make_pairs(const ConvolutionSpec& spec, const float* weight,
                                        const float* bias);
std::unique_ptr<Convolution> make_winograd(const ConvolutionSpec& spec, const float* weight,
                                           const float* bias, int m);
std::unique_ptr<Convolution> make_winograd_fixed(const ConvolutionSpec& spec, const float* weight,
                                                 const float* bias, int m);

}  // namespace msf
