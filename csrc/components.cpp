// Neighbouring rows, and what is done with the components of a binary image.
#include "components.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "kernels/components.hpp"
#include "kernels/label.hpp"
#include "paint.hpp"

namespace msf {

template void Components::join(const Neighbours&, const BinaryPairs&);

Neighbours::Neighbours(const Grid& grid, int connectivity) : outer_(grid.outer) {
  const auto axes = outer_.size();
  if (axes > 31) throw std::length_error("more than 32 axes of more than one pixel");
  // All steps in {-1, 0, 1}^axes that lead back, of at most `connectivity` steps together.
  const auto add = [&](auto&& self, std::size_t axis, Neighbour step, int hops) -> void {
    if (hops > connectivity) return;
    if (axis == axes) {
      if (step.back <= 0) return;
      step.diagonal = hops < connectivity;
      if (list_.size() > (1u << 20)) throw std::length_error("too many neighbours per pixel");
      list_.push_back(step);
      reach_ = std::max(reach_, step.back);
      return;
    }
    const std::int64_t back = step.back * outer_[axis];
    self(self, axis + 1, {back, step.needs, false}, hops);
    self(self, axis + 1, {back + 1, step.needs | std::uint64_t{1} << (2 * axis), false}, hops + 1);
    self(self, axis + 1, {back - 1, step.needs | std::uint64_t{2} << (2 * axis), false}, hops + 1);
  };
  add(add, 0, {0, 0, false}, 0);
  // With all diagonals, neighbours touch unless they lie on two sides of the row along an axis.
  covering_ = axes > 1 && connectivity > static_cast<int>(axes) && list_.size() <= 64;
  const std::uint64_t back = 0x5555555555555555;
  std::vector<std::size_t> covers(list_.size());
  for (std::size_t place = 0; place < list_.size(); ++place) {
    Neighbour& n = list_[place];
    n.place = static_cast<int>(place);
    const std::uint64_t opposite = (n.needs & back) << 1 | (n.needs >> 1 & back);
    for (std::size_t other = 0; covering_ && other < list_.size(); ++other)
      if (other != place && !(list_[other].needs & opposite)) {
        n.covered_by |= std::uint64_t{1} << other;
        ++covers[other];
      }
  }
  if (covering_)
    list_[std::max_element(covers.begin(), covers.end()) - covers.begin()].covers_most = true;
}

Neighbours::Walk::Walk(const Neighbours& neighbours, std::int64_t row)
    : neighbours_(neighbours), row_(row), position_(neighbours.outer_.size()) {
  for (std::size_t axis = position_.size(); axis-- > 0;) {
    position_[axis] = row % neighbours.outer_[axis];
    row /= neighbours.outer_[axis];
    look(axis);
  }
}

void Neighbours::Walk::next() {
  ++row_;
  for (std::size_t axis = position_.size(); axis-- > 0;) {
    const bool wraps = ++position_[axis] == neighbours_.outer_[axis];
    if (wraps) position_[axis] = 0;
    look(axis);
    if (!wraps) return;
  }
}

void Neighbours::Walk::look(std::size_t axis) {
  const bool first = position_[axis] == 0, last = position_[axis] + 1 == neighbours_.outer_[axis];
  at_border_ &= ~(std::uint64_t{3} << (2 * axis));
  at_border_ |= (std::uint64_t{first} | std::uint64_t{last} << 1) << (2 * axis);
}

namespace {

Array one_bool(const std::uint8_t& value) {
  Array array;
  array.data = &value;
  array.dtype = DType::boolean;
  return array;
}

std::shared_ptr<const Components> components_of(const Array& mask, int connectivity,
                                                std::uint8_t background) {
  const Array value = one_bool(background);
  return label_components(mask, &value, connectivity, false);
}

// Calls f(row, component_of) for all rows, on several threads.
template <class F>
void for_each_row(const Components& components, F&& f) {
  const std::int64_t length = std::max<std::int64_t>(components.runs().length(), 1);
  components.visit_labels([&](auto&& component_of) {
    parallel_for(components.runs().rows(), std::max<std::int64_t>(1, (1 << 18) / length),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t row = begin; row < end; ++row) f(row, component_of);
                 });
  });
}

// Pixels per component, [0] unused. Every slab counts for itself, as two threads that add to the
// largest component would wait for each other all the time; the counters of all slabs together
// take at most a byte per pixel.
std::vector<std::int64_t> sizes_of(const Components& components) {
  const Runs& runs = components.runs();
  const std::int64_t counters = components.count() + 1, pixels = runs.rows() * runs.length();
  const std::int64_t most = std::max<std::int64_t>(1, pixels / (8 * counters));
  const Slabs slabs(runs.rows(), std::max<std::int64_t>(1, runs.rows() / most));
  std::vector<std::int64_t> sizes(counters * slabs.count);
  components.visit_labels([&](auto&& component_of) {
    slabs.run([&](std::int64_t slab, std::int64_t first_row, std::int64_t end_row) {
      std::int64_t* const mine = sizes.data() + slab * counters;
      Ticker tick(256);
      for (std::int64_t row = first_row; row < end_row; ++row, tick())
        runs.for_each<false>(row, [&](std::int64_t begin, std::int64_t end, std::int64_t run) {
          mine[component_of(run)] += end - begin;
        });
    });
  });
  for (std::int64_t slab = 1; slab < slabs.count; ++slab)
    for (std::int64_t c = 0; c < counters; ++c) sizes[c] += sizes[slab * counters + c];
  sizes.resize(counters);
  return sizes;
}

// mask = value[component] on runs, gap elsewhere.
void write_mask(const Components& components, const std::vector<std::uint8_t>& value,
                std::uint8_t gap, const MutableArray& mask) {
  components.visit_labels([&](auto&& component_of) {
    paint<std::uint8_t>(components.runs(), mask.as<std::uint8_t>(), gap, false,
                        [&](std::int64_t run) { return value[component_of(run)]; });
  });
}

// Whether a pixel is less than `width` pixels from the image's border, along any axis.
struct Border {
  const Grid grid;
  const std::int64_t width;
  bool everywhere = false;  // an axis so short that all pixels are

  Border(const Array& image, std::int64_t width) : grid(image), width(width) {
    for (int axis = 0; axis < image.ndim; ++axis) everywhere |= image.shape[axis] <= 2 * width;
  }
  bool whole_row(std::int64_t row) const {
    if (everywhere) return true;
    for (std::size_t axis = grid.outer.size(); axis-- > 0; row /= grid.outer[axis]) {
      const std::int64_t position = row % grid.outer[axis];
      if (position < width || position >= grid.outer[axis] - width) return true;
    }
    return false;
  }
  bool columns(std::int64_t begin, std::int64_t end) const {
    return begin < width || end > grid.length - width;
  }
};

// Flags by component, [0] for the gaps between runs; set by several threads.
class Flags {
 public:
  explicit Flags(const Components& components) : flags_(components.count() + 1) {}
  void set(std::int64_t component) {
    std::atomic_ref<std::uint8_t>(flags_[component]).store(1, std::memory_order_relaxed);
  }
  bool operator[](std::int64_t component) const { return flags_[component]; }
  std::vector<std::uint8_t> negated() const {
    auto values = flags_;
    for (auto& value : values) value = !value;
    return values;
  }

 private:
  std::vector<std::uint8_t> flags_;
};

// Components that reach the border; gaps too.
Flags reaching_border(const Components& components, const Border& border) {
  Flags reached(components);
  for_each_row(components, [&](std::int64_t row, auto&& component_of) {
    const bool all = border.whole_row(row);
    components.runs().for_each<true>(row,
                                     [&](std::int64_t begin, std::int64_t end, std::int64_t run) {
                                       if (all || border.columns(begin, end))
                                         reached.set(run < 0 ? 0 : component_of(run));
                                     });
  });
  return reached;
}

// Components with a pixel where the mask is not set; gaps too.
Flags leaving_mask(const Components& components, const std::uint8_t* mask) {
  Flags leaving(components);
  for_each_row(components, [&](std::int64_t row, auto&& component_of) {
    const std::uint8_t* const m = mask + row * components.runs().length();
    components.runs().for_each<true>(row,
                                     [&](std::int64_t begin, std::int64_t end, std::int64_t run) {
                                       if (std::memchr(m + begin, 0, end - begin))
                                         leaving.set(run < 0 ? 0 : component_of(run));
                                     });
  });
  return leaving;
}

}  // namespace

void remove_small(const Array& mask, std::int64_t max_size, int connectivity, bool holes,
                  const MutableArray& out) {
  const auto components = components_of(mask, connectivity, holes);
  const auto sizes = sizes_of(*components);
  std::vector<std::uint8_t> value(sizes.size());
  for (std::size_t c = 0; c < sizes.size(); ++c) value[c] = (sizes[c] > max_size) != holes;
  write_mask(*components, value, holes, out);
}

void largest_component(const Array& mask, int connectivity, const MutableArray& out) {
  const auto components = components_of(mask, connectivity, false);
  auto sizes = sizes_of(*components);
  std::vector<std::uint8_t> value(sizes.size());
  value[std::max_element(sizes.begin(), sizes.end()) - sizes.begin()] = 1;
  write_mask(*components, value, 0, out);
}

void fill_holes(const Array& mask, int connectivity, const MutableArray& out) {
  const auto components = components_of(mask, connectivity, true);
  const Flags outside = reaching_border(*components, Border(mask, 1));
  write_mask(*components, outside.negated(), 1, out);
}

void clear_border(const Array& labels, std::int64_t width, const Array* mask,
                  const Array& background, const MutableArray& out) {
  visit_bits(labels.dtype, [&]<class T>(Type<T>) {
    const T zero{};
    Array value = background;
    value.data = &zero;
    const auto components = label_components(labels, &value, labels.ndim, false);
    const Flags cleared = mask ? leaving_mask(*components, mask->as<std::uint8_t>())
                               : reaching_border(*components, Border(labels, width));
    const T fill = *background.as<T>();
    const std::int64_t length = components->runs().length();
    for_each_row(*components, [&](std::int64_t row, auto&& component_of) {
      const T* const source = labels.as<T>() + row * length;
      T* const target = out.as<T>() + row * length;
      if (source != target) std::copy_n(source, length, target);
      components->runs().for_each<true>(
          row, [&](std::int64_t begin, std::int64_t end, std::int64_t run) {
            if (cleared[run < 0 ? 0 : component_of(run)])
              std::fill(target + begin, target + end, fill);
          });
    });
  });
}

}  // namespace msf
