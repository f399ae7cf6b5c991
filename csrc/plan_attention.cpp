// Attention of all pixels to all pixels; see plan_layers.hpp.
//
// softmax(Q K' / sqrt(channels)) V without the matrix of all pairs: a task holds a block of queries
// and goes through the keys block by block. A block of scores becomes powers relative to the
// largest score so far; where a block brings a larger one, sums and values gathered before it are
// scaled down. So memory is that of two blocks for a thread, whatever the number of pixels (Milakov
// and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention",
// NeurIPS 2022, whose blocks these are). Both products are dot_panel's, on keys turned into panels
// and values cut into panels of channels.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "conv_lanes.hpp"
#include "conv_parts.hpp"
#include "exponential.hpp"
#include "parallel.hpp"
#include "plan_layers.hpp"
#include "plan_rows.hpp"

namespace msf {

namespace {

using Index = std::int64_t;

// 192 queries for which keys are packed, 128 keys: scores and keys stay in the second-level cache.
constexpr Index queries = 192, keys = 128;
static_assert(queries % dot_rows == 0 && keys % panel == 0);

Index round_up(Index n, Index to) { return (n + to - 1) / to * to; }

Size3 place(const Features& f, Index pixel) {
  return {pixel / (f.size[1] * f.size[2]), pixel / f.size[2] % f.size[1], pixel % f.size[2]};
}

// A head's channels of pixels [begin, end), a row each; scaled.
template <class T>
void read_rows(const Features& f, Index n, Index c0, Index channels, Index begin, Index end,
               float scale, float* to, Index pitch) {
  for (Index i = begin; i < end; ++i, to += pitch) {
    const T* const from = pixel<T>(f, n, place(f, i)) + c0;
    for (Index c = 0; c < channels; ++c) to[c] = static_cast<float>(from[c]) * scale;
    std::fill(to + channels, to + pitch, 0.0f);
  }
}

// Rows of keys to panels of keys: for each channel a panel of floats. Rows beyond `count` are 0.
void turn(const float* rows, Index pitch, Index channels, Index count, float* to) {
  for (Index first = 0; first < keys; first += panel, to += channels * panel)
    for (Index half = 0; half < 2; ++half)
      for (Index c = 0; c < pitch; c += lanes) {
        Lanes v[lanes];
        for (Index i = 0; i < lanes; ++i) {
          const Index key = first + half * lanes + i;
          v[i] = key < count ? load_lanes(rows + key * pitch + c) : Lanes{};
        }
        transpose_lanes(v);
        for (Index i = 0; i < std::min(lanes, channels - c); ++i)
          store_lanes(to + (c + i) * panel + half * lanes, v[i]);
      }
}

// What a block of queries has gathered so far.
struct Gathered {
  std::array<float, queries> most, sum;
};

// Scores of a query become powers relative to the largest so far; its values are scaled to that.
void weigh(float* scores, Index width, float& most, float& sum, float* values, Index pitch) {
  Lanes best = load_lanes(scores);
  for (Index i = lanes; i < width; i += lanes) {
    const Lanes v = load_lanes(scores + i);
    best = v > best ? v : best;
  }
  float now = most;
  for (Index i = 0; i < lanes; ++i) now = best[i] > now ? best[i] : now;
  for (Index i = 0; i < width; ++i) scores[i] = exponential(scores[i] - now);
  Lanes sums{};
  for (Index i = 0; i < width; i += lanes) sums += load_lanes(scores + i);
  float total = 0;
  for (Index i = 0; i < lanes; ++i) total += sums[i];
  if (now == most) {
    sum += total;
    return;
  }
  const float down = exponential(most - now);  // of the first block: of no weight
  sum = sum * down + total;
  for (Index c = 0; c < pitch; c += lanes) store_lanes(values + c, load_lanes(values + c) * down);
  most = now;
}

// A block of queries of one head.
template <class T>
void attend(const Features& q, const Features& k, const Features& v, const Features& out, Index n,
            Index c0, Index channels, Index begin, float scale) {
  const Index count = std::min(queries, q.size[0] * q.size[1] * q.size[2] - begin);
  const Index rows = round_up(count, dot_rows), pitch = round_up(channels, lanes);
  const Index wide = round_up(channels, panel), pixels = k.size[0] * k.size[1] * k.size[2];
  float* const asked = task_scratch(queries * (pitch + wide + keys) + keys * (2 * wide + pitch));
  float* const gathered = asked + queries * pitch;
  float* const scores = gathered + queries * wide;
  float* const read = scores + queries * keys;
  float* const turned = read + keys * wide;
  float* const values = turned + keys * pitch;
  read_rows<T>(q, n, c0, channels, begin, begin + count, scale, asked, pitch);
  std::fill_n(gathered, rows * wide, 0.0f);
  Gathered state;
  state.most.fill(-std::numeric_limits<float>::infinity());
  state.sum.fill(0);
  std::array<const float*, queries> asked_rows, score_rows;
  for (Index r = 0; r < rows; ++r) {
    asked_rows[static_cast<std::size_t>(r)] = asked + std::min(r, count - 1) * pitch;
    score_rows[static_cast<std::size_t>(r)] = scores + std::min(r, count - 1) * keys;
  }
  const Run over_channels{0, channels};
  for (Index first = 0; first < pixels; first += keys) {
    poll();
    const Index some = std::min(keys, pixels - first), width = round_up(some, panel);
    read_rows<T>(k, n, c0, channels, first, first + some, 1.0f, read, pitch);
    turn(read, pitch, channels, some, turned);
    for (Index r = 0; r < rows; r += dot_rows)
      for (Index i = 0; i < width; i += panel)
        dot_panel(&asked_rows[static_cast<std::size_t>(r)], &over_channels, 1,
                  turned + i * channels, scores + r * keys + i, keys);
    for (Index r = 0; r < count; ++r) {
      std::fill(scores + r * keys + some, scores + r * keys + width,
                -std::numeric_limits<float>::infinity());
      const auto i = static_cast<std::size_t>(r);
      weigh(scores + r * keys, width, state.most[i], state.sum[i], gathered + r * wide, wide);
    }
    read_rows<T>(v, n, c0, channels, first, first + some, 1.0f, read, wide);
    for (Index c = 0; c < wide; c += panel)
      for (Index i = 0; i < some; ++i)
        std::copy_n(read + i * wide + c, panel, values + c * keys + i * panel);
    const Run over_keys{0, some};
    for (Index c = 0; c < wide; c += panel)
      for (Index r = 0; r < rows; r += dot_rows)
        dot_panel(&score_rows[static_cast<std::size_t>(r)], &over_keys, 1, values + c * keys,
                  gathered + r * wide + c, wide, true);
  }
  for (Index r = 0; r < count; ++r) {
    T* const to = pixel<T>(out, n, place(out, begin + r)) + c0;
    const float* const from = gathered + r * wide;
    const float sum = state.sum[static_cast<std::size_t>(r)];
    for (Index c = 0; c < channels; ++c) to[c] = static_cast<T>(from[c] / sum);
  }
}

}  // namespace

void attention(Index heads, float scale, const Features& q, const Features& k, const Features& v,
               const Features& out) {
  const Index pixels = q.size[0] * q.size[1] * q.size[2], each = q.channels / heads;
  const Index blocks = (pixels + queries - 1) / queries;
  visit_features(q.dtype, [&]<class T>(Type<T>) {
    parallel_tasks(q.batch * heads * blocks, [&](Index task) {
      const Index n = task / blocks / heads, head = task / blocks % heads;
      attend<T>(q, k, v, out, n, head * each, each, task % blocks * queries, scale);
    });
  });
}

}  // namespace msf
