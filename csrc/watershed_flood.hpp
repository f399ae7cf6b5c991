// What a flooding works on, and the step that it repeats: voxels leave the queue and let their free
// neighbours in.
#pragma once

#include <cstdint>
#include <memory>

#include "watershed.hpp"

namespace msf {

inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
inline void prefetch_to_write(const void* p) { __builtin_prefetch(p, 1, 3); }

struct Flooding {
  const Footprint& footprint;
  Bitmap& free;
  Labels labels;
  const std::uint8_t* values;
  std::int64_t value_bytes;
  bool keys;  // a free voxel's label is its key, so that its value need not be fetched too

  Flooding(const Array& image, const Footprint& footprint, Bitmap& free, const MutableArray& labels,
           bool keys)
      : footprint(footprint),
        free(free),
        labels(labels),
        values(image.as<std::uint8_t>()),
        value_bytes(item_size(image.dtype)),
        keys(keys) {}

  const void* value(std::int64_t v) const { return values + v * value_bytes; }
};

// Voxels that leave together, because nothing that they let in goes before the last of them.
template <class Index>
class Step {
 public:
  explicit Step(Flooding& flooding);

  // f(w, was) for every voxel that the `count` <= most_leaving voxels let in, in order, with the
  // label that it had before it got theirs.
  template <class F>
  void operator()(const Index* leaving, std::int64_t count, F&& f) {
    const std::int64_t entered =
        claim_(flooding_, leaving, count, entering_.get(), by_.get(), were_.get());
    for (std::int64_t i = 0; i < entered; ++i) f(static_cast<std::int64_t>(entering_[i]), were_[i]);
  }

  // Reads ahead what it takes to let the neighbours of v in.
  void fetch(std::int64_t v) const { fetch_(flooding_, v); }

 private:
  using Claim = std::int64_t (*)(Flooding&, const Index*, std::int64_t, Index* entering, Index* by,
                                 std::uint64_t* were);
  Flooding& flooding_;
  Claim claim_;
  void (*fetch_)(const Flooding&, std::int64_t);
  std::unique_ptr<Index[]> entering_, by_;  // those let in, and by whom
  std::unique_ptr<std::uint64_t[]> were_;   // their labels before
};
extern template class Step<std::uint32_t>;
extern template class Step<std::int64_t>;

}  // namespace msf
