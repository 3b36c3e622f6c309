// Feeds files to the JSON readers, for a build with -fsanitize=address,undefined.
// Arguments: files. Each is read as results and as annotations, with several block sizes, by one and by two threads.

#include <fcntl.h>
#include <sys/stat.h>

#include "column.h"
#include "report.h"

extern "C" void read_results(int, std::int64_t, std::int32_t, std::int64_t, Mapping*, Report*);
extern "C" void read_annotations(int, std::int64_t, std::int32_t, std::int64_t, Mapping*, Report*);
extern "C" void release_column(void*, std::int64_t);

int main(int count, char** names) {
  int accepted = 0;
  for (int i = 1; i < count; ++i) {
    const int file = open(names[i], O_RDONLY);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0) return 2;
    for (const std::int64_t block_bytes : {1, 61, 1 << 20}) {
      for (const std::int32_t threads : {1, 2}) {
        for (auto* read : {read_results, read_annotations}) {
          Mapping columns[15] = {};
          Report report = {};
          read(file, status.st_size, threads, block_bytes, columns, &report);
          accepted += report.problem[0] == '\0';
          for (const Mapping& column : columns) {
            if (column.bytes > 0) release_column(column.data, column.bytes);
          }
        }
      }
    }
    close(file);
  }
  std::printf("%d\n", accepted);
  return 0;
}
