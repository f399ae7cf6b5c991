// Which pixels a pooled box reads along one axis, and with which weights.
//
// ROI Align averages samples of the (multi)linearly interpolated input on a grid in each bin. The
// grid, the interpolation and the rule that drops samples outside are products over the axes, so a
// bin is a weighted sum over the axes one after another: the samples of a bin become weights of
// pixels, those of a pixel are added up, and all channels share them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace msf {

template <class T>
struct AxisTaps {
  // Taps of bin b: [begin[b], begin[b + 1]).
  std::vector<std::int64_t> begin, at;
  std::vector<T> weight;
  // The pixels any bin reads, ascending: the k-th is used by [use[k], use[k + 1]) of use_bin and
  // use_weight, bins ascending.
  std::vector<std::int64_t> pixels, use, use_bin;
  std::vector<T> use_weight;
  // Where a tap is in a copy of these pixels, or if `whole` of all from the first to the last.
  std::vector<std::int64_t> packed;
  bool whole = true;
  bool one = false;  // an axis that the arrays lack

  std::int64_t first() const { return pixels.empty() ? 0 : pixels.front(); }
  std::int64_t count() const { return static_cast<std::int64_t>(pixels.size()); }
  std::int64_t span() const { return pixels.empty() ? 0 : pixels.back() - pixels.front() + 1; }
  std::int64_t packed_size() const { return whole ? span() : count(); }

  void single() {
    one = true;
    begin = {0, 1};
    at = {0};
    weight = {T(1)};
    invert();
  }
  void clear() {
    begin.clear();
    at.clear();
    weight.clear();
  }
  void add(std::int64_t pixel, T w) {  // of the bin that is being made
    const std::size_t first = begin.back(), recent = at.size() > 3 ? at.size() - 3 : 0;
    for (std::size_t i = at.size(); i-- > std::max(first, recent);)
      if (at[i] == pixel) {
        weight[i] += w;
        return;
      }
    at.push_back(pixel);
    weight.push_back(w);
  }
  void invert() {
    pixels = at;
    std::sort(pixels.begin(), pixels.end());
    pixels.erase(std::unique(pixels.begin(), pixels.end()), pixels.end());
    packed.resize(at.size());
    use.assign(pixels.size() + 1, 0);
    for (std::size_t i = 0; i < at.size(); ++i) {
      packed[i] = std::lower_bound(pixels.begin(), pixels.end(), at[i]) - pixels.begin();
      ++use[packed[i] + 1];
    }
    for (std::size_t k = 0; k < pixels.size(); ++k) use[k + 1] += use[k];
    use_bin.resize(at.size());
    use_weight.resize(at.size());
    std::vector<std::int64_t> next(use.begin(), use.end() - 1);
    for (std::size_t b = 0; b + 1 < begin.size(); ++b)
      for (std::int64_t i = begin[b]; i < begin[b + 1]; ++i) {
        const std::int64_t place = next[packed[i]]++;
        use_bin[place] = static_cast<std::int64_t>(b);
        use_weight[place] = weight[i];
      }
    whole = span() <= 2 * count();
    if (whole)
      for (std::size_t i = 0; i < at.size(); ++i) packed[i] = at[i] - pixels.front();
  }
};

// The taps of `bins` bins between `low` and `high`, on an axis of `extent` pixels. In T's own
// arithmetic, step by step as torchvision's: where a sample falls decides which pixels it reads.
template <class T>
void sample_axis(T low, T high, double scale_, std::int64_t bins, std::int64_t extent,
                 std::int64_t samples, bool aligned, AxisTaps<T>& taps) {
  const T scale = static_cast<T>(scale_), offset = aligned ? T(0.5) : T(0);
  const T start = low * scale - offset, end = high * scale - offset;
  T size = end - start;
  if (!aligned) size = std::max(size, T(1));
  const T bin = size / static_cast<T>(bins);
  // Beyond 2^62 samples positions would not differ anyway.
  const T wanted = samples > 0 ? static_cast<T>(samples) : std::ceil(bin);
  const auto grid = static_cast<std::int64_t>(std::clamp(wanted, T(0), T(0x1p62)));
  const T share = T(1) / static_cast<T>(std::max<std::int64_t>(grid, 1));
  taps.clear();
  taps.begin.push_back(0);
  for (std::int64_t b = 0; b < bins; ++b) {
    const auto position = [&](std::int64_t i) {
      const T half = static_cast<T>(static_cast<float>(i) + .5f);
      return start + static_cast<T>(b) * bin + half * bin / static_cast<T>(grid);
    };
    std::int64_t first = 0, last = grid;
    if (grid > 64 && bin > 0) {  // most may be outside: positions ascend
      const auto bound = [&](auto before) {
        std::int64_t from = 0, to = grid;
        while (from < to) {
          const std::int64_t middle = from + (to - from) / 2;
          if (before(position(middle)))
            from = middle + 1;
          else
            to = middle;
        }
        return from;
      };
      first = bound([](T p) { return p < T(-1); });
      last = bound([&](T p) { return p <= static_cast<T>(extent); });
    }
    for (std::int64_t i = first; i < last; ++i) {
      T p = position(i);
      if (!(p >= T(-1) && p <= static_cast<T>(extent))) continue;
      p = std::max(p, T(0));
      const auto low_pixel = static_cast<std::int64_t>(p);
      if (low_pixel >= extent - 1) {
        taps.add(extent - 1, share);
        continue;
      }
      const T above = p - static_cast<T>(low_pixel);
      taps.add(low_pixel, (T(1) - above) * share);
      taps.add(low_pixel + 1, above * share);
    }
    taps.begin.push_back(static_cast<std::int64_t>(taps.at.size()));
  }
  taps.invert();
}

}  // namespace msf
