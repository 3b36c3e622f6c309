// COCO/LVIS results JSON, [{"image_id": …, "category_id": …, "bbox": [x, y, w, h], "score": …}, …], to columns.

#include <exception>

#include "block_array.h"
#include "column.h"
#include "json_record.h"
#include "report.h"

namespace {

constexpr int kImage = 0, kCategory = 1, kBox = 2, kScore = 3, kPhrase = 4;
constexpr std::array<json::Field, 5> kFields{{
    {"image_id\"", "an integer (int64)"},
    {"category_id\"", "an integer (int32)"},
    {"bbox\"", "a list of 4 numbers [x, y, width, height] within ±1e100"},
    {"score\"", "a finite number"},
    {"phrase\"", "a string of Unicode text"},
}};
constexpr unsigned kRequired = 1u << kImage | 1u << kCategory | 1u << kBox | 1u << kScore;
constexpr std::int32_t kNoCategory = -1;  // of free-text output, whose records may leave the category out

struct Row {
  std::int64_t image_id;
  std::int32_t category_id;
  bool has_phrase;
  double value[5];  // score, x, y, w, h
};

struct DetectionBlock {
  std::vector<Row> rows;
  bool single = true;             // every number is exactly a float32
  std::vector<std::size_t> ends;  // of the phrases in text, one per row that has one
  std::string text;

  bool parse(json::Cursor& c) {
    json::Fields<kFields> fields;
    const bool object = json::parse_object<kFields>(c, [&](int field) {
      const char* start = c.p;
      bool usable = true, valid = true;
      std::int64_t category = 0;
      switch (field) {
        case kImage:
          valid = json::read_integer(c, INT64_MIN, INT64_MAX, row_.image_id, usable);
          break;
        case kCategory:
          valid = json::read_integer(c, INT32_MIN, INT32_MAX, category, usable);
          row_.category_id = static_cast<std::int32_t>(category);
          break;
        case kBox:
          valid = json::read_box(c, row_.value + 1, usable);
          break;
        case kScore:
          valid = json::read_number(c, row_.value[0], usable);
          break;
        default:
          valid = json::read_text(c, phrase_, usable);
      }
      fields.note(field, usable, start);
      return valid;
    });
    row_.has_phrase = fields.has(kPhrase);
    if (row_.has_phrase && !fields.has(kCategory)) row_.category_id = kNoCategory;
    return object && fields.complete(c, row_.has_phrase ? kRequired & ~(1u << kCategory) : kRequired);
  }

  void keep() {
    for (const double v : row_.value) single &= static_cast<double>(static_cast<float>(v)) == v;
    rows.push_back(row_);
    if (row_.has_phrase) {
      text += phrase_;
      ends.push_back(text.size());
    }
  }

  std::int64_t size() const { return static_cast<std::int64_t>(rows.size()); }

  void clear() {
    rows.clear();
    ends.clear();
    text.clear();
    single = true;
  }

 private:
  Row row_;
  std::string phrase_;
};

struct DetectionColumns {
  Column<std::int64_t> image_id;
  Column<std::int32_t> category_id;
  Column<float> narrow[5];  // used while every number is exactly a float32
  Column<double> wide[5];   // used from the first one that is not
  bool single = true;
  Column<std::int64_t> phrase_ends;
  Column<char> phrase_text;
  std::int64_t first_with = -1, first_without = -1;  // rows with and without a phrase

  void append(const DetectionBlock& block) {
    if (single && !block.single) widen();
    const std::size_t n = block.rows.size();
    const std::int64_t before = static_cast<std::int64_t>(image_id.size());
    std::int64_t* images = image_id.extend(n);
    std::int32_t* categories = category_id.extend(n);
    for (std::size_t i = 0; i < n; ++i) {
      images[i] = block.rows[i].image_id;
      categories[i] = block.rows[i].category_id;
    }
    for (int j = 0; j < 5; ++j) {
      if (single) {
        float* values = narrow[j].extend(n);
        for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<float>(block.rows[i].value[j]);
      } else {
        double* values = wide[j].extend(n);
        for (std::size_t i = 0; i < n; ++i) values[i] = block.rows[i].value[j];
      }
    }
    for (std::size_t i = 0; i < n && (first_with < 0 || first_without < 0); ++i) {
      std::int64_t& first = block.rows[i].has_phrase ? first_with : first_without;
      if (first < 0) first = before + static_cast<std::int64_t>(i);
    }
    const std::int64_t text_before = static_cast<std::int64_t>(phrase_text.size());
    std::int64_t* ends = phrase_ends.extend(block.ends.size());
    for (const std::size_t end : block.ends) *ends++ = text_before + static_cast<std::int64_t>(end);
    std::copy(block.text.begin(), block.text.end(), phrase_text.extend(block.text.size()));
  }

 private:
  void widen() {
    single = false;
    for (int j = 0; j < 5; ++j) {
      std::copy(narrow[j].data(), narrow[j].data() + narrow[j].size(), wide[j].extend(narrow[j].size()));
      narrow[j].clear();
    }
  }
};

// Offset after the bracket that opens the list.
std::int64_t open_list(const Source& source) {
  Window window(source);
  window.load(0, 4096);
  json::Cursor c;
  do {
    window.place(c, 0);
    c.space();
  } while (c.p == c.end && window.extend(window.end_offset() + 1));
  if (*c.p == '{') {
    throw std::runtime_error("the top level is an object, a list of detections is needed (is this an annotation file?)");
  }
  if (c.take('[', "a list of detections")) return c.offset();
  throw std::runtime_error(c.problem.empty() ? "the file holds only white space" : c.problem);
}

}  // namespace

// Columns: image_id, category_id, score, x, y, w, h, ends of phrases, text of phrases.
extern "C" void read_results(int descriptor, std::int64_t size, std::int32_t threads, std::int64_t block_bytes,
                             Mapping* columns, Report* report) {
  report_errors(report, [&] {
    const Source source{descriptor, size};
    DetectionColumns sink;
    ArrayReader<DetectionBlock, DetectionColumns> reader(source, "record ", threads, block_bytes, sink);
    const std::int64_t end = reader.read(open_list(source));
    if (end < 0) throw std::runtime_error(reader.problem);
    require_end(source, end);
    if (sink.first_with >= 0 && sink.first_without >= 0) {
      throw std::runtime_error("record " + std::to_string(sink.first_without) + ": field 'phrase' is missing, record " +
                               std::to_string(sink.first_with) + " has it: all records need it, or none");
    }
    report->rows = static_cast<std::int64_t>(sink.image_id.size());
    report->single = sink.single;
    *columns++ = sink.image_id.release();
    *columns++ = sink.category_id.release();
    for (int j = 0; j < 5; ++j) *columns++ = sink.single ? sink.narrow[j].release() : sink.wide[j].release();
    *columns++ = sink.phrase_ends.release();
    *columns++ = sink.phrase_text.release();
  });
}

extern "C" void release_column(void* data, std::int64_t bytes) { munmap(data, bytes); }
