// What a reader returns besides the columns.
#pragma once

#include <cstdint>
#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>

#include "file_window.h"

struct Report {
  std::int64_t rows;
  std::int32_t single;  // float columns are float32
  char problem[500];    // empty: no problem
};

// Runs read() and turns its exceptions into the report's problem, because none may leave an extern "C" function.
template <class Read>
void report_errors(Report* report, Read&& read) {
  report->problem[0] = '\0';
  try {
    read();
  } catch (const std::bad_alloc&) {
    std::snprintf(report->problem, sizeof report->problem, "needs more memory than there is");
  } catch (const std::exception& error) {
    std::snprintf(report->problem, sizeof report->problem, "%s", error.what());
  }
}

// Only white space may follow the document.
inline void require_end(const Source& source, std::int64_t offset) {
  Window window(source);
  json::Cursor c;
  while (offset < source.size) {
    window.load(offset, offset + (1 << 16));
    window.place(c, offset);
    c.space();
    c.expected("the end of the file");
    if (!c.problem.empty()) throw std::runtime_error(c.problem);
    offset = c.offset();
  }
}
