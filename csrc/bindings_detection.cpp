// What Python sees of the kernels for detection: boxes, regions and masks of instances.
#include <optional>
#include <vector>

#include "bindings.hpp"
#include "kernels/class_masks.hpp"
#include "kernels/nms.hpp"
#include "kernels/paste_masks.hpp"
#include "kernels/roi_align.hpp"

namespace msf {

void bind_detection(const Scope& m) {
  m.def("nms", [](const Array& boxes, const Array& scores, const std::optional<Array>& classes,
                  double iou_threshold, const MutableArray& keep) {
    return nms(boxes, scores, classes ? &*classes : nullptr, iou_threshold, keep);
  });
  m.def("soft_nms",
        [](const Array& boxes, const Array& scores, double iou_threshold, double sigma,
           double score_threshold, const MutableArray& keep, const MutableArray& decayed) {
          return soft_nms(boxes, scores, {iou_threshold, sigma, score_threshold}, keep, decayed);
        });
  m.def("class_masks", &class_masks);
  m.def("paste_masks", &paste_masks);
  using Sizes = std::vector<std::int64_t>;
  m.def("roi_align", [](const Array& input, bool channels_last, const Array& boxes, const Array& to,
                        const Sizes& bins, double scale, std::int64_t samples, bool aligned,
                        const MutableArray& out, bool out_channels_last) {
    roi_align(input, channels_last, boxes, to, {bins, scale, samples, aligned}, out,
              out_channels_last);
  });
  m.def("roi_align_backward",
        [](const Array& gradient, const Array& boxes, const Array& from, const Sizes& bins,
           double scale, std::int64_t samples, bool aligned, const MutableArray& out) {
          roi_align_backward(gradient, boxes, from, {bins, scale, samples, aligned}, out);
        });
}

}  // namespace msf
