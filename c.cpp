#include <ocellus/models/segformer.hpp>
