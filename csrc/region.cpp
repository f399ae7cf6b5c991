// Flood fill over rows of bits.
//
// A queue holds the rows that changed. Taking one from it, (1) its visited bits spread over whole
// runs of remaining bits, 64 pixels an instruction (the carry of an addition runs to the upper end
// of a run; a logarithmic shift cascade runs down); (2) for each neighbouring row, the visited bits
// (widened by one pixel where diagonals count) that are still remaining there become visited, and
// that row joins the queue. This is the scanline fill of A. R. Smith, "Tint fill" (SIGGRAPH 1979),
// with words for spans. The set that is reached does not depend on the order.
#include "kernels/region.hpp"

#include <new>
#include <utility>

namespace msf {
namespace {

// Rows compared one by one before the rest is compared at once, on all threads: a region that has
// come this far will likely need most of them.
constexpr std::int64_t eager_part = 16;

// to[i] &= from[i + shift] over a row of words; beyond its ends everything is set.
void and_shifted(Word* to, const Word* from, std::int64_t words, std::int64_t shift) {
  const auto at = [&](std::int64_t w) { return w < 0 || w >= words ? ~Word{0} : from[w]; };
  for (std::int64_t w = 0; w < words; ++w) {
    const std::int64_t bit = w * word_bits + shift;
    const std::int64_t low = bit >> 6, part = bit & 63;
    to[w] &= part == 0 ? at(low) : at(low) >> part | at(low + 1) << (word_bits - part);
  }
}

}  // namespace

RowGrid::RowGrid(const Array& image, std::int64_t reach) : axes(image.ndim - 1) {
  length = image.shape[axes];
  words = words_for(length);
  for (int axis = axes - 1; axis >= 0; --axis) {
    shape[axis] = image.shape[axis];
    border[axis] = reach;
    stride[axis] = places;
    first += reach * places;
    rows *= shape[axis];
    places *= shape[axis] + 2 * reach;
  }
}

std::int64_t RowGrid::place(std::int64_t row) const {
  std::int64_t place = first;
  for (int axis = axes - 1; axis >= 0; --axis) {
    place += row % shape[axis] * stride[axis];
    row /= shape[axis];
  }
  return place;
}

std::int64_t RowGrid::row(std::int64_t place) const {
  std::int64_t row = 0;
  for (int axis = 0; axis < axes; ++axis) {
    row = row * shape[axis] + place / stride[axis] - border[axis];
    place %= stride[axis];
  }
  return row;
}

Region::Region(const Array& image, std::vector<std::int64_t> radius, std::int64_t border)
    : image_(image),
      radius_(std::move(radius)),
      eroded_(std::any_of(radius_.begin(), radius_.end(), [](auto r) { return r > 0; })),
      grid_(image, border),
      remaining_(make_bits(grid_.places * grid_.words)),
      visited_(make_bits(grid_.places * grid_.words)),
      raw_(make_bits(eroded_ ? grid_.places * grid_.words : 0)),
      state_(grid_.places, known),
      span_(grid_.places),
      wide_(grid_.words) {
  grid_.walk(0, grid_.rows, [&](std::int64_t, std::int64_t place) { state_[place] = 0; });
}

Region::Bits Region::make_bits(std::int64_t words) {
  Bits bits(static_cast<Word*>(std::calloc(std::max<std::int64_t>(words, 1), sizeof(Word))));
  if (!bits) throw std::bad_alloc();
  return bits;
}

void Region::reset(const Array& bounds) {
  set_bounds(bounds);
  grid_.walk(0, grid_.rows, [&](std::int64_t, std::int64_t place) {
    if (state_[place] & touched) {
      std::fill_n(&visited_[place * grid_.words], grid_.words, Word{0});
      if (summed_) std::fill_n(&summed_[place * grid_.words], grid_.words, Word{0});
    }
    state_[place] = 0;
  });
  count_ = touched_rows_ = 0;
  moments_ = {};
  widened_ = false;
}

void Region::widen(const Array& bounds) {
  set_bounds(bounds);
  grid_.walk(0, grid_.rows, [&](std::int64_t, std::int64_t place) { state_[place] &= touched; });
  widened_ = true;
}

// Makes a row's remaining bits valid.
inline void Region::know(std::int64_t place) {
  if (state_[place] & known) return;
  const std::int64_t row = grid_.row(place);
  if (eroded_) {
    erode_row(row, place);
  } else {
    compare_row(row, &remaining_[place * grid_.words]);
  }
  leave_visited_out(place);
  state_[place] |= known;
  if (++known_rows_ == grid_.rows / eager_part + 64) know_all();
}

void Region::know_all() {
  // Rows of an eroded image read their neighbours' raw rows: those first.
  for (const bool eroding : {false, true}) {
    if (eroding && !eroded_) break;
    const std::int64_t grain = grid_.rows_per_task();
    parallel_for(grid_.rows, grain, [&](std::int64_t begin, std::int64_t end) {
      grid_.walk(begin, end, [&](std::int64_t row, std::int64_t place) {
        if (eroded_ && !eroding) {
          raw(row, place);
        } else if (!(state_[place] & known)) {
          if (eroded_) {
            erode_row(row, place);
          } else {
            compare_row(row, &remaining_[place * grid_.words]);
          }
          leave_visited_out(place);
          if (!eroded_) state_[place] |= known;
        }
      });
    });
  }
  // Not before, as rows that are eroded look at the state of others.
  if (eroded_)
    grid_.walk(0, grid_.rows, [&](std::int64_t, std::int64_t place) { state_[place] |= known; });
}

// A row before erosion across rows, already eroded along itself.
const Word* Region::raw(std::int64_t row, std::int64_t place) {
  Word* const bits = &raw_[place * grid_.words];
  if (state_[place] & raw_known) return bits;
  compare_row(row, bits);
  const std::int64_t radius = std::min(radius_.back(), grid_.length);
  if (radius > 0) {
    // Beyond the row's end counts as inside; so does the last word's unused part, for now.
    const std::int64_t last = grid_.words - 1, used = grid_.length - last * word_bits;
    const Word tail = used == word_bits ? 0 : ~Word{0} << used;
    bits[last] |= tail;
    std::vector<Word> before(grid_.words);
    for (std::int64_t done = 0; done < radius;) {  // the reach doubles, then the rest
      const std::int64_t step = std::min(done + 1, radius - done);
      std::copy_n(bits, grid_.words, before.data());
      and_shifted(bits, before.data(), grid_.words, step);
      and_shifted(bits, before.data(), grid_.words, -step);
      done += step;
    }
    bits[last] &= ~tail;
  }
  state_[place] |= raw_known;
  return bits;
}

void Region::erode_row(std::int64_t row, std::int64_t place) {
  std::array<std::int64_t, max_dims> low{}, high{}, at{};
  std::int64_t source = 0, from = grid_.first;
  for (std::int64_t axis = grid_.axes - 1, rest = row, step = 1; axis >= 0; --axis) {
    const std::int64_t x = rest % grid_.shape[axis];
    rest /= grid_.shape[axis];
    low[axis] = at[axis] = std::max<std::int64_t>(0, x - radius_[axis]);
    high[axis] = x + std::min(radius_[axis], grid_.shape[axis] - 1 - x);
    source += low[axis] * step;
    from += low[axis] * grid_.stride[axis];
    step *= grid_.shape[axis];
  }
  Word* const bits = &remaining_[place * grid_.words];
  std::fill_n(bits, grid_.words, ~Word{0});
  for (int axis = 0; axis >= 0;) {
    const Word* const other = raw(source, from);
    for (std::int64_t w = 0; w < grid_.words; ++w) bits[w] &= other[w];
    std::int64_t step = 1;
    for (axis = grid_.axes - 1; axis >= 0; --axis) {  // the next row of the box
      if (++at[axis] <= high[axis]) {
        source += step;
        from += grid_.stride[axis];
        break;
      }
      source -= (high[axis] - low[axis]) * step;
      from -= (high[axis] - low[axis]) * grid_.stride[axis];
      at[axis] = low[axis];
      step *= grid_.shape[axis];
    }
  }
}

inline void Region::leave_visited_out(std::int64_t place) {
  if (!(state_[place] & touched)) return;
  for (std::int64_t w = place * grid_.words, end = w + grid_.words; w < end; ++w)
    remaining_[w] &= ~visited_[w];
}

Region::Pixel Region::locate(const Array& indices, std::int64_t i) const {
  const std::int64_t* index = indices.as<std::int64_t>() + i * (grid_.axes + 1);
  std::int64_t place = grid_.first;
  for (int axis = 0; axis < grid_.axes; ++axis) place += index[axis] * grid_.stride[axis];
  const std::int64_t x = index[grid_.axes];
  return {place, x, place * grid_.words + x / word_bits, Word{1} << (x % word_bits)};
}

// Whether a seed can still be visited.
bool Region::offer(const Pixel& seed, bool force) {
  know(seed.place);
  if (force && !(visited_[seed.word] & seed.bit)) remaining_[seed.word] |= seed.bit;
  return remaining_[seed.word] & seed.bit;
}

std::vector<Region::Link> Region::links(int connectivity) const {
  std::vector<Link> links;
  const auto add = [&](auto& self, int axis, std::int64_t distance, int used) -> void {
    if (axis == grid_.axes) {
      if (used > 0) links.push_back({distance, used < connectivity});
      return;
    }
    for (int d = -1; d <= 1; ++d)
      if (used + (d != 0) <= connectivity)
        self(self, axis + 1, distance + d * grid_.stride[axis], used + (d != 0));
  };
  add(add, 0, 0, 0);
  return links;
}

void Region::enqueue(std::int64_t place, std::int64_t begin, std::int64_t end) {
  Span& span = span_[place];
  if (state_[place] & queued) {
    span.begin = std::min(span.begin, static_cast<std::uint32_t>(begin));
    span.end = std::max(span.end, static_cast<std::uint32_t>(end));
  } else {
    span = {static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end)};
    touched_rows_ += !(state_[place] & touched);
    state_[place] |= queued | touched;
    queue_.push_back(place);
  }
}

// Spreads the visited bits of a row's changed words along the row; returns the words changed.
Region::Span Region::fill_row(std::int64_t place) {
  Word* const visited = &visited_[place * grid_.words];
  Word* const remaining = &remaining_[place * grid_.words];
  const std::int64_t begin = span_[place].begin, end = span_[place].end;
  const auto visit_more = [&](std::int64_t w, Word filled) {
    const Word added = filled & ~visited[w];
    count_ += std::popcount(added);
    visited[w] = filled;
    remaining[w] ^= added;
  };
  std::int64_t w = begin;
  for (Word carry = 0; w < end || (w < grid_.words && (carry & remaining[w])); ++w) {
    if (remaining[w]) {
      const Word mask = visited[w] | remaining[w];
      visit_more(w, fill_up(visited[w] | (carry & mask), mask));
    }
    carry = visited[w] >> (word_bits - 1);
  }
  const std::int64_t top = w;
  w = top - 1;
  for (Word carry = 0; w >= begin || (w >= 0 && (carry & remaining[w])); --w) {
    if (remaining[w]) {
      const Word mask = visited[w] | remaining[w];
      visit_more(w, fill_down(visited[w] | (carry & mask), mask));
    }
    carry = visited[w] << (word_bits - 1);
  }
  return {static_cast<std::uint32_t>(w + 1), static_cast<std::uint32_t>(top)};
}

inline void Region::spread(std::int64_t place, Span span, const Link& link) {
  const std::int64_t other = place + link.distance;
  know(other);
  const Word* const from = link.sideways ? wide_.data() : &visited_[place * grid_.words];
  Word* const remaining = &remaining_[other * grid_.words];
  Word any = 0;
  for (std::uint32_t w = span.begin; w < span.end; ++w) any |= from[w] & remaining[w];
  if (any == 0) return;
  Word* const visited = &visited_[other * grid_.words];
  for (std::uint32_t w = span.begin; w < span.end; ++w) {
    const Word added = from[w] & remaining[w];
    visited[w] |= added;
    remaining[w] ^= added;
    count_ += std::popcount(added);
  }
  enqueue(other, span.begin, span.end);
}

// Makes the region's rows known in the wider interval, on all threads, and queues those from which
// it may grow.
void Region::go_on() {
  widened_ = false;
  const auto compare = [&](std::int64_t begin, std::int64_t end) {
    grid_.walk(begin, end, [&](std::int64_t row, std::int64_t place) {
      if (!(state_[place] & touched) || eroded_) return;
      compare_row(row, &remaining_[place * grid_.words]);
      leave_visited_out(place);
      state_[place] |= known;
    });
  };
  for_rows(compare, true);
  grid_.walk(0, grid_.rows, [&](std::int64_t, std::int64_t place) {
    if (!(state_[place] & touched)) return;
    know(place);
    enqueue(place, 0, grid_.words);
  });
}

std::int64_t Region::grow(const Array& seeds, bool force, int connectivity, std::int64_t limit) {
  const std::vector<Link> links = this->links(connectivity);
  queue_.clear();
  if (widened_) go_on();
  for (std::int64_t i = 0; i < seeds.shape[0]; ++i) {
    const Pixel seed = locate(seeds, i);
    if (!offer(seed, force)) continue;
    remaining_[seed.word] ^= seed.bit;
    visited_[seed.word] |= seed.bit;
    ++count_;
    enqueue(seed.place, seed.x / word_bits, seed.x / word_bits + 1);
  }
  std::vector<std::int64_t> now;
  Ticker tick(1 << 8);
  while (!queue_.empty()) {
    now.clear();
    std::swap(now, queue_);
    for (const std::int64_t place : now) {
      tick();
      state_[place] &= ~queued;
      Span span = fill_row(place);
      if (count_ > limit) return count_;
      for (const Link& link : links)
        if (!link.sideways) spread(place, span, link);
      if (connectivity == 1) continue;
      const Word* const visited = &visited_[place * grid_.words];
      span.begin -= span.begin > 0;
      span.end += span.end < grid_.words;
      for (std::int64_t w = span.begin; w < span.end; ++w) {
        const Word below = w > 0 ? visited[w - 1] >> (word_bits - 1) : 0;
        const Word above = w + 1 < grid_.words ? visited[w + 1] << (word_bits - 1) : 0;
        wide_[w] = visited[w] | visited[w] << 1 | visited[w] >> 1 | below | above;
      }
      for (const Link& link : links)
        if (link.sideways) spread(place, span, link);
    }
  }
  return count_;
}

std::int64_t Region::grow_breadth_first(const Array& seeds, bool force, const Array& offsets,
                                        std::int64_t limit) {
  struct Step {
    std::int64_t distance, x;
  };
  std::vector<Step> steps;
  const std::int64_t dims = grid_.axes + 1;
  for (std::int64_t i = 0; i < offsets.shape[0]; ++i) {
    const std::int64_t* offset = offsets.as<std::int64_t>() + i * dims;
    Step step{0, offset[grid_.axes]};
    for (int axis = 0; axis < grid_.axes; ++axis)
      step.distance += offset[axis] * grid_.stride[axis];
    steps.push_back(step);
  }
  std::vector<std::int64_t> now, next;
  // Whether growth may go on.
  const auto reach = [&](std::int64_t place, std::int64_t x) {
    know(place);
    const std::int64_t w = place * grid_.words + x / word_bits;
    const Word bit = Word{1} << (x % word_bits);
    if (!(remaining_[w] & bit)) return true;
    if (++count_ > limit) return false;
    remaining_[w] ^= bit;
    visited_[w] |= bit;
    touched_rows_ += !(state_[place] & touched);
    state_[place] |= touched;
    next.push_back(place * grid_.length + x);
    return true;
  };
  for (std::int64_t i = 0; i < seeds.shape[0]; ++i) {
    const Pixel seed = locate(seeds, i);
    if (offer(seed, force) && !reach(seed.place, seed.x)) return count_;
  }
  Ticker tick(1 << 12);
  while (!next.empty()) {
    now.clear();
    std::swap(now, next);
    for (const std::int64_t pixel : now) {
      tick();
      const std::int64_t place = pixel / grid_.length, x = pixel % grid_.length;
      for (const Step& step : steps) {
        const std::int64_t to = x + step.x;
        if (to < 0 || to >= grid_.length) continue;
        if (!reach(place + step.distance, to)) return count_;
      }
    }
  }
  return count_;
}

bool Region::holds(const Array& index) {
  const Pixel pixel = locate(index, 0);
  return visited_[pixel.word] & pixel.bit;
}

}  // namespace msf
