#include "trace.h"

#include <cstdio>

#include "settings.h"
#include "stream.h"

namespace emulator {

// The file is opened for each line: several processes may write to it, and a program may name
// another one on its way.
void trace(const std::string& kernel, const Launch& launch, const Accesses& accesses) {
  std::string path = setting("TRACE", "");
  if (path.empty()) return;
  FILE* file = fopen(path.c_str(), "a");
  if (!file) return;
  fprintf(file, "{\"kernel\": \"%s\", \"grid\": [%u, %u, %u], \"block\": [%u, %u, %u]",
          kernel.c_str(), launch.grid.x, launch.grid.y, launch.grid.z, launch.block.x,
          launch.block.y, launch.block.z);
  fprintf(file, ", \"dynamic_shared\": %zu", launch.dynamic_shared);
  if (in_graph()) fprintf(file, ", \"graph\": true");
  if (launch.kernel->checked)
    fprintf(file,
            ", \"read\": %llu, \"written\": %llu, \"read_by_blocks\": %llu, \"read_once\": %llu",
            accesses.read, accesses.written, accesses.read_by_blocks, accesses.read_once);
  fprintf(file, "}\n");
  fclose(file);
}

}  // namespace emulator
