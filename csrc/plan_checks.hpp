// What the steps of a plan ask of their numbers: a file may be damaged, and that has to end in an
// error, not in somebody else's memory.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "plan.hpp"

namespace msf {

// Throws std::invalid_argument unless `holds`; `what` the steps ask for.
void require(bool holds, const char* what);

// How many bytes of its slot a view of such items needs.
std::int64_t bytes_of(const View& view, std::int64_t item);

// Indices of maxima: one after another, channels innermost.
void check_packed(const View& indices);
// Of a convolution by arrays of so many weights and biases, from maps of one size.
void check_convolution(const ConvolutionSpec& spec, Algorithm algorithm, std::int64_t weights,
                       std::int64_t biases, const std::vector<View>& in,
                       const std::optional<View>& full, const std::optional<View>& pooled,
                       const std::optional<View>& indices, std::int64_t phases);
void check_pool(const PoolSpec& spec);
// Channels innermost, all of one type.
void check_channels_last(std::initializer_list<const View*> views);
// As many images, channels and, unless `any_size`, pixels.
void check_same(const View& a, const View& b, bool any_size = false);
void check_pointwise(const PointwiseSpec& spec, std::int64_t channels, bool second);
// Indices of inputs along each axis, where they come from; below 0: none, if `some` may have none.
void check_indices(const std::vector<std::int64_t>& indices, std::int64_t size, bool some);

}  // namespace msf
