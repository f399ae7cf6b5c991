#pragma once

#include <cstdint>
#include <memory>

#include "array.hpp"

namespace msf {

// Runs of an image and their components (components.hpp). Pixels equal to `background` (one element
// of the image's dtype; null: there is none) and NaN belong to none; a bool image has one label,
// True, or False where background is True. `wide` forces 64-bit tables, for tests.
class Components;
std::shared_ptr<const Components> label_components(const Array& image, const Array* background,
                                                   int connectivity, bool wide);
std::int64_t count_components(const Components& components);
// labels: any integer dtype that holds the count. blank: it is known to hold zeros.
void write_labels(const Components& components, const MutableArray& labels, bool blank);

}  // namespace msf
