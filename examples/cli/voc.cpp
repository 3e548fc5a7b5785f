// Pascal VOC needs pugixml; a build without it says so when it meets such data.
#include "command.hpp"

#if defined(OCELLUS_VOC)
#include <ocellus/data/voc.hpp>
#endif

namespace ocellus::cli {

VocReader voc_reader() {
#if defined(OCELLUS_VOC)
  return read_voc;
#else
  return nullptr;
#endif
}

}  // namespace ocellus::cli
