// Greedy non-maximum suppression, and Soft-NMS (Bodla et al., "Improving Object Detection With One
// Line of Code", ICCV 2017).
//
// The best box is kept and suppresses those it overlaps by more than a threshold, then the best box
// left, and so on. Each kept box meets only the blocks of boxes around it (box_blocks.hpp), 32 of
// them at once. The intersection over union is computed as torchvision does, in the boxes' own type
// and in the same order, so the result is the same to the last box.
#include <cmath>
#include <cstring>

#include "box_blocks.hpp"
#include "kernels/nms.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

// Intersection over union of a box with those of a block. False: all are certainly below `least`
// (at least 0), and `overlap` is not written.
template <class T, int dims>
bool overlaps(const BoxBlocks<T, dims>& boxes, std::int64_t block, const T* box, T volume,
              double least, T* overlap) {
  using Blocks = BoxBlocks<T, dims>;
  using Vector = typename Blocks::Vector;
  constexpr std::int64_t vectors = Blocks::size / Blocks::lanes;
  const std::int64_t first = block * Blocks::size;
  const T nearly = static_cast<T>(least * (1 - 1e-4));
  Vector common[vectors], all[vectors];
  typename Blocks::Mask any{};
  for (std::int64_t i = 0; i < vectors; ++i) {
    const std::int64_t at = first + i * Blocks::lanes;
    for (int axis = 0; axis < dims; ++axis) {
      const Vector low = Blocks::load(boxes.low[axis], at), from = box[axis] - Vector{};
      const Vector high = Blocks::load(boxes.high[axis], at), to = box[dims + axis] - Vector{};
      // Which of two is taken where one is NaN does not matter: the union is NaN then.
      const Vector side = (high < to ? high : to) - (from < low ? low : from);
      const Vector positive = side > T(0) ? side : Vector{};
      common[i] = axis == 0 ? positive : common[i] * positive;
    }
    all[i] = volume + Blocks::load(boxes.volume, at) - common[i];
    any |= (common[i] > T(0)) & (common[i] >= nearly * all[i]);
  }
  if (least >= 0 && !Blocks::any_of(any)) return false;
  for (std::int64_t i = 0; i < vectors; ++i) {
    const Vector ratio = common[i] / all[i];
    std::memcpy(overlap + i * Blocks::lanes, &ratio, sizeof ratio);
  }
  return true;
}

// Scores as integers in descending order; NaN first.
inline std::uint32_t descending(float score) {
  if (std::isnan(score)) return 0;
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.f);  // -0 is 0
  return bits >> 31 ? bits : 0x7fffffffu - bits;
}

template <class T>
std::vector<std::int32_t> by_score(const T* scores, std::int64_t n) {
  std::vector<std::int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  if constexpr (std::is_same_v<T, float>) {
    std::vector<std::uint32_t> keys(n);
    std::transform(scores, scores + n, keys.begin(), descending);
    sort_by_key(keys, order);
  } else {
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
      return std::isnan(scores[a]) ? !std::isnan(scores[b]) : scores[a] > scores[b];
    });
  }
  return order;
}

// The largest T not above: for x of type T, x > threshold is x > this.
template <class T>
T rounded_down(double threshold) {
  const T near = static_cast<T>(threshold);
  return static_cast<double>(near) > threshold
             ? std::nextafter(near, -std::numeric_limits<T>::infinity())
             : near;
}

// Marks in `kept` the boxes of `ranked`, best first, that are kept among themselves.
template <class T, int dims>
void suppress(const Array& boxes_, const std::vector<std::int32_t>& ranked, double threshold_,
              std::vector<std::uint8_t>& kept) {
  const T* const boxes = boxes_.as<T>();
  const BoxBlocks<T, dims> blocks(boxes, ranked);
  const T threshold = rounded_down<T>(threshold_);
  std::vector<std::uint32_t> alive(blocks.blocks, ~std::uint32_t{0});
  std::vector<std::int32_t> places(ranked.size());
  for (std::int64_t place = 0; place < blocks.count; ++place)
    places[blocks.index[place]] = static_cast<std::int32_t>(place);
  alignas(64) std::array<T, BoxBlocks<T, dims>::size> overlap;
  Ticker tick(64);
  for (std::size_t r = 0; r < ranked.size(); ++r) {
    const std::int32_t place = places[r];
    std::uint32_t& own = alive[place / 32];
    if (!(own >> (place % 32) & 1)) continue;
    own &= ~(std::uint32_t{1} << (place % 32));
    kept[ranked[r]] = 1;
    tick();
    const T* box = boxes + ranked[r] * std::int64_t{2 * dims};
    const T volume = blocks.volume[place];
    const auto meet = [&](std::int64_t block) {
      if (alive[block] == 0) return;
      if (!overlaps(blocks, block, box, volume, threshold_, overlap.data())) return;
      std::uint32_t above = 0;
      for (std::size_t i = 0; i < overlap.size(); ++i)
        above |= static_cast<std::uint32_t>(overlap[i] > threshold) << i;
      alive[block] &= ~above;
    };
    if (threshold_ >= 0)
      blocks.for_each_near(box, volume, threshold_, meet);
    else
      for (std::int64_t block = 0; block < blocks.blocks; ++block) meet(block);
  }
}

// `suppress`: the function above for the boxes' type.
std::int64_t run_nms(const Array& boxes, const std::vector<std::int32_t>& order,
                     const Array* classes, double threshold, decltype(suppress<float, 2>)* suppress,
                     std::int64_t* keep) {
  const std::int64_t n = boxes.shape[0];
  std::vector<std::uint8_t> kept(n, 0);
  if (classes == nullptr) {
    suppress(boxes, order, threshold, kept);
  } else {
    const auto* const of = classes->as<std::int64_t>();
    std::vector<std::int32_t> grouped = order;
    std::stable_sort(grouped.begin(), grouped.end(),
                     [&](std::int32_t a, std::int32_t b) { return of[a] < of[b]; });
    std::vector<std::int64_t> begin;
    for (std::int64_t i = 0; i < n; ++i)
      if (i == 0 || of[grouped[i]] != of[grouped[i - 1]]) begin.push_back(i);
    begin.push_back(n);
    parallel_tasks(static_cast<std::int64_t>(begin.size()) - 1, [&](std::int64_t group) {
      const std::vector<std::int32_t> members(grouped.begin() + begin[group],
                                              grouped.begin() + begin[group + 1]);
      suppress(boxes, members, threshold, kept);
    });
  }
  std::int64_t count = 0;
  for (const std::int32_t i : order)
    if (kept[i]) keep[count++] = i;
  return count;
}

// Scores by place and the best of each block, so that the best of all takes a look at each block.
template <class T, int dims>
std::int64_t run_soft(const Array& boxes_, const Array& scores_, const SoftNms& rule,
                      std::int64_t* keep, T* decayed) {
  constexpr T gone = -std::numeric_limits<T>::infinity();
  const T* const boxes = boxes_.as<T>();
  std::vector<std::int32_t> members(boxes_.shape[0]);
  std::iota(members.begin(), members.end(), 0);
  const BoxBlocks<T, dims> blocks(boxes, members);
  std::vector<T> scores(blocks.blocks * blocks.size, gone), best(blocks.blocks, gone);
  std::vector<std::int64_t> best_place(blocks.blocks, 0);
  for (std::int64_t p = 0; p < blocks.count; ++p) {
    const T score = scores_.as<T>()[blocks.index[p]];
    scores[p] = score == score ? score : gone;  // NaN would hide the rest of its block
  }
  const auto find_best = [&](std::int64_t block) {  // ties: the least index
    std::int64_t at = block * blocks.size;
    for (std::int64_t p = at; p < (block + 1) * blocks.size; ++p)
      if (scores[p] > scores[at] ||
          (scores[p] == scores[at] && blocks.index[p] >= 0 && blocks.index[p] < blocks.index[at]))
        at = p;
    best[block] = scores[at];
    best_place[block] = at;
  };
  for (std::int64_t block = 0; block < blocks.blocks; ++block) find_best(block);
  alignas(64) std::array<T, BoxBlocks<T, dims>::size> overlap;
  const bool linear = rule.sigma == 0;
  const T threshold = static_cast<T>(rule.iou_threshold), width = static_cast<T>(rule.sigma);
  Ticker tick(64);
  std::int64_t count = 0;
  for (;;) {
    std::int64_t from = -1;
    for (std::int64_t block = 0; block < blocks.blocks; ++block)
      if (best[block] > gone && (from < 0 || best[block] > best[from] ||
                                 (best[block] == best[from] && blocks.index[best_place[block]] <
                                                                   blocks.index[best_place[from]])))
        from = block;
    if (from < 0 || !(static_cast<double>(best[from]) > rule.score_threshold)) return count;
    tick();
    const std::int64_t place = best_place[from];
    keep[count] = blocks.index[place];
    decayed[count++] = scores[place];
    scores[place] = gone;
    const T* box = boxes + blocks.index[place] * std::int64_t{2 * dims};
    find_best(from);
    const double least = linear ? std::max(rule.iou_threshold, 0.0) : 0;
    blocks.for_each_near(box, blocks.volume[place], least, [&](std::int64_t block) {
      if (best[block] == gone) return;
      if (!overlaps(blocks, block, box, blocks.volume[place], least, overlap.data())) return;
      bool changed = false;
      for (std::int64_t i = 0; i < blocks.size; ++i) {
        const T o = overlap[i];
        T& score = scores[block * blocks.size + i];
        if (!(o > 0) || score == gone || (linear && o < threshold)) continue;
        score *= linear ? 1 - o : std::exp(-(o * o) / width);
        changed = true;
      }
      if (changed) find_best(block);
    });
  }
}

template <class F>
std::int64_t by_type(const Array& boxes, F&& f) {
  const bool flat = boxes.shape[1] == 4;
  if (boxes.dtype == DType::float32)
    return flat ? f.template operator()<float, 2>() : f.template operator()<float, 3>();
  return flat ? f.template operator()<double, 2>() : f.template operator()<double, 3>();
}

}  // namespace

std::int64_t nms(const Array& boxes, const Array& scores, const Array* classes,
                 double iou_threshold, const MutableArray& keep) {
  if (boxes.shape[0] == 0) return 0;
  return by_type(boxes, [&]<class T, int dims>() {
    return run_nms(boxes, by_score(scores.as<T>(), boxes.shape[0]), classes, iou_threshold,
                   suppress<T, dims>, keep.as<std::int64_t>());
  });
}

std::int64_t soft_nms(const Array& boxes, const Array& scores, const SoftNms& rule,
                      const MutableArray& keep, const MutableArray& decayed) {
  if (boxes.shape[0] == 0) return 0;
  return by_type(boxes, [&]<class T, int dims>() {
    return run_soft<T, dims>(boxes, scores, rule, keep.as<std::int64_t>(), decayed.as<T>());
  });
}

}  // namespace msf
