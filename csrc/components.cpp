// Neighbouring rows, and what is done with the components of a binary image.
#include "components.hpp"

#include "kernels.hpp"

namespace msf {

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

}  // namespace msf
