// The two steps of a U-Net's decoder: doubling by a transposed convolution, and joining the skip.
//
// With kernel and stride 2 no two input voxels meet in an output voxel, so the convolution is a
// matrix product: (outputs x 4) by (channels x voxels), whose four rows of an output channel go to
// two rows of its image, alternating. A block of voxels is packed, panel by panel and channel by
// channel, into the cache; for each output channel the 4 x panel products stay in registers over
// the channels, and are interleaved into strips of the block's rows, which are then copied. A few
// outputs' weights are gathered for a block: side by side in memory they are channel by channel.
// Channels are summed in order, whatever the number of threads.
#include "kernels/upsampling.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

#include "pack.hpp"
#include "parallel.hpp"
#include "stream.hpp"

namespace msf {
namespace {

using Index = std::int64_t;

template <class T>
using Vector __attribute__((vector_size(register_bytes))) = T;

template <class T>
class TransposedConvolution {
  static constexpr Index lanes = register_bytes / sizeof(T);
  static constexpr Index panel = 3 * lanes;  // voxels
  // Output channels for which a panel stays in the first-level cache, and input channels of it.
  static constexpr Index together = 8, cached_channels = 256;
  static constexpr Index block_bytes = 1 << 18;

  // A panel's values in three registers: members, as an array of vectors would live in memory.
  struct Row {
    Vector<T> x, y, z;

    explicit Row(T value) : x(Vector<T>{} + value), y(x), z(x) {}
    explicit Row(const T* from) {
      std::memcpy(&x, from, sizeof x);
      std::memcpy(&y, from + lanes, sizeof y);
      std::memcpy(&z, from + 2 * lanes, sizeof z);
    }
    void add(T weight, const Row& v) {
      x += weight * v.x;
      y += weight * v.y;
      z += weight * v.z;
    }
    void store(T* to) const {
      std::memcpy(to, &x, sizeof x);
      std::memcpy(to + lanes, &y, sizeof y);
      std::memcpy(to + 2 * lanes, &z, sizeof z);
    }
  };

 public:
  TransposedConvolution(const Array& input, const Array& weight, const Array& bias,
                        const MutableArray& output)
      : input_(input.as<T>()),
        weight_(weight.as<T>()),
        bias_(bias.as<T>()),
        output_(output.as<T>()),
        batch_(input.shape[0]),
        channels_(input.shape[1]),
        depth_(input.shape[2]),
        rows_(input.shape[3]),
        columns_(input.shape[4]),
        outputs_(weight.shape[1]),
        taps_(weight.shape[2]),
        large_(output.size() * static_cast<Index>(sizeof(T)) >= much_for_caches) {}

  void run() const {
    const Index voxels = depth_ * rows_ * columns_;
    // Some image rows, so that pieces of the result are long, of what the second-level cache holds;
    // but 256 voxels at least, for which weights are gathered.
    const Index held = block_bytes / (std::max<Index>(channels_, 1) * panel * sizeof(T));
    const Index block = std::clamp<Index>(held, (256 + panel - 1) / panel,
                                          std::max<Index>(32, 4 * columns_ / panel)) *
                        panel;
    const Index blocks = (voxels + block - 1) / block;
    // Enough tasks for all threads, each packing its block for at least 16 output channels.
    const Index wanted = (4 * num_threads() + batch_ * blocks - 1) / (batch_ * blocks);
    const Index shares = std::clamp<Index>(wanted, 1, (outputs_ + 15) / 16);
    parallel_tasks(batch_ * blocks * shares, [&](Index task) {
      const Index share = task % shares, n = task / shares / blocks;
      const Index begin = task / shares % blocks * block, count = std::min(block, voxels - begin);
      const Index panels = (count + panel - 1) / panel;
      const std::unique_ptr<T[]> packed(new T[panels * panel * channels_]),
          strips(new T[together * 4 * block]), weights(new T[together * 4 * channels_]);
      pack_voxels(n, begin, count, packed.get());
      const Index last = outputs_ * (share + 1) / shares;
      for (Index o = outputs_ * share / shares; o < last; o += together)
        for (Index tap = 0; tap < taps_; ++tap) {
          poll();
          const Index group = std::min(together, last - o);
          pack_weights(o, group, tap, weights.get());
          for (Index i = 0; i < panels; ++i)
            convolve(packed.get() + i * panel * channels_, weights.get(), &bias_[o], group,
                     strips.get() + 2 * i * panel, 2 * block);
          for (Index g = 0; g < group; ++g)
            write(strips.get() + g * 4 * block, 2 * block, n * outputs_ + o + g, tap, begin, count);
        }
      finish_streams();
    });
  }

 private:
  // To tap `tap` of each output channel o ... o + group, of every input channel.
  void pack_weights(Index o, Index group, Index tap, T* to) const {
    for (Index c = 0; c < channels_; ++c) {
      const T* const from = weight_ + ((c * outputs_ + o) * taps_ + tap) * 4;
      for (Index g = 0; g < group; ++g)
        std::copy_n(from + g * taps_ * 4, 4, to + (g * channels_ + c) * 4);
    }
  }

  // Panel by panel, channel by channel; zeros beyond the voxels.
  void pack_voxels(Index n, Index begin, Index count, T* to) const {
    for (Index done = 0; done < count; done += panel)
      for (Index c = 0; c < channels_; ++c, to += panel) {
        const T* const from =
            input_ + (n * channels_ + c) * depth_ * rows_ * columns_ + begin + done;
        if (count - done >= panel) {
          std::memcpy(to, from, panel * sizeof(T));
        } else {
          std::copy_n(from, count - done, to);
          std::fill(to + count - done, to + panel, T{});
        }
      }
  }

  // A panel of voxels to the two rows of some output channels, `row` apart in strips.
  void convolve(const T* voxels, const T* weights, const T* bias, Index group, T* strips,
                Index row) const {
    alignas(64) T products[together][4][panel];
    for (Index c = 0; c == 0 || c < channels_; c += cached_channels)  // without: the bias
      for (Index g = 0; g < group; ++g)
        multiply(voxels + c * panel, std::min(cached_channels, channels_ - c),
                 weights + (g * channels_ + c) * 4, c == 0 ? bias + g : nullptr, products[g]);
    for (Index g = 0; g < group; ++g)
      for (Index dy = 0; dy < 2; ++dy) {
        T* __restrict to = strips + (2 * g + dy) * row;
        const T *const left = products[g][2 * dy], *const right = products[g][2 * dy + 1];
        for (Index i = 0; i < panel; ++i) {
          to[2 * i] = left[i];
          to[2 * i + 1] = right[i];
        }
      }
  }

  // Products of some channels, from the bias on or added to what is there.
  [[gnu::noinline]] static void multiply(const T* __restrict voxels, Index channels,
                                         const T* __restrict weights, const T* bias,
                                         T (*products)[panel]) {
    const auto start = [&](int i) { return bias ? Row(*bias) : Row(products[i]); };
    Row a = start(0), b = start(1), c = start(2), d = start(3);
    for (Index i = 0; i < channels; ++i, voxels += panel, weights += 4) {
      const Row v(voxels);
      a.add(weights[0], v);
      b.add(weights[1], v);
      c.add(weights[2], v);
      d.add(weights[3], v);
    }
    a.store(products[0]);
    b.store(products[1]);
    c.store(products[2]);
    d.store(products[3]);
  }

  // The strips of `count` voxels from `begin` on to the rows of output plane `plane`.
  void write(const T* strips, Index row, Index plane, Index tap, Index begin, Index count) const {
    for (Index done = 0; done < count;) {
      const Index voxel = begin + done, x = voxel % columns_, line = voxel / columns_;
      const Index n = std::min(count - done, columns_ - x);
      const Index z = line / rows_ * taps_ + tap, y = line % rows_ * 2;
      for (Index dy = 0; dy < 2; ++dy) {
        T* const to =
            output_ + (((plane * depth_ * taps_ + z) * rows_ * 2 + y + dy) * columns_ + x) * 2;
        const T* const from = strips + dy * row + 2 * done;
        const auto bytes = static_cast<Index>(2 * n * sizeof(T));
        if (large_)
          stream(from, bytes, to);
        else
          std::memcpy(to, from, static_cast<std::size_t>(bytes));
      }
      done += n;
    }
  }

  const T *input_, *weight_, *bias_;
  T* output_;
  Index batch_, channels_, depth_, rows_, columns_, outputs_, taps_;
  bool large_;
};

}  // namespace

void transposed_conv2x2(const Array& input, const Array& weight, const Array& bias,
                        const MutableArray& output) {
  if (output.size() == 0) return;
  if (input.dtype == DType::float64)
    TransposedConvolution<double>(input, weight, bias, output).run();
  else
    TransposedConvolution<float>(input, weight, bias, output).run();
}

void crop_concat(const Array& skip, const Array& input, const std::array<Index, 3>& at,
                 const MutableArray& output) {
  if (output.size() == 0) return;
  const Index bytes = item_size(output.dtype);
  const Index channels = output.shape[1], depth = output.shape[2], rows = output.shape[3];
  const Index row_bytes = output.shape[4] * bytes, slices = output.shape[0] * channels * depth;
  const Index grain = std::max<Index>(1, (Index{1} << 18) / (rows * row_bytes));
  const bool large = output.size() * bytes >= much_for_caches;
  const auto copy = [&](const std::byte* from, Index count, std::byte* to) {
    if (large)
      stream(from, count, to);
    else
      std::memcpy(to, from, static_cast<std::size_t>(count));
  };
  parallel_for(slices, grain, [&](Index begin, Index end) {
    for (Index slice = begin; slice < end; ++slice) {
      poll();
      const Index z = slice % depth, c = slice / depth % channels, n = slice / depth / channels;
      std::byte* const to = output.as<std::byte>() + slice * rows * row_bytes;
      if (c >= skip.shape[1]) {
        const Index from = (n * input.shape[1] + c - skip.shape[1]) * depth + z;
        copy(input.as<std::byte>() + from * rows * row_bytes, rows * row_bytes, to);
        continue;
      }
      const Index plane = (n * skip.shape[1] + c) * skip.shape[2] + z + at[0];
      for (Index y = 0; y < rows; ++y) {
        const Index first = (plane * skip.shape[3] + y + at[1]) * skip.shape[4] + at[2];
        copy(skip.as<std::byte>() + first * bytes, row_bytes, to + y * row_bytes);
      }
    }
    finish_streams();
  });
}

}  // namespace msf
