// LVIS / COCO instances JSON to columns: the fields that scoring needs are extracted, polygons etc. are only checked.
// Categories are few and contain texts; the caller reads them from the byte ranges that are returned.

#include "block_array.h"
#include "column.h"
#include "json_record.h"
#include "report.h"

namespace {

struct Image {
  static constexpr std::array<json::Field, 7> kFields{{
      {"id\"", "an integer (int64)"},
      {"width\"", "a number of pixels (integer)"},
      {"height\"", "a number of pixels (integer)"},
      {"neg_category_ids\"", "a list of integers"},
      {"not_exhaustive_category_ids\"", "a list of integers"},
      {"file_name\"", "a string of Unicode text"},
      {"coco_url\"", "a string of Unicode text"},
  }};
  static constexpr unsigned kRequired = 1;

  std::int64_t id = 0, size[2] = {0, 0};
  std::vector<std::int64_t> lists[2];  // neg, not exhaustive
  bool listed[2] = {false, false};
  std::string names[2];  // file_name, coco_url

  const std::string& name() const { return names[names[0].empty()]; }

  bool read(json::Cursor& c) {
    for (int i = 0; i < 2; ++i) {
      size[i] = 0;
      lists[i].clear();
      names[i].clear();
    }
    json::Fields<kFields> fields;
    const bool object = json::parse_object<kFields>(c, [&](int field) {
      const char* start = c.p;
      bool usable = true, valid = true;
      if (field == 0) {
        valid = json::read_integer(c, INT64_MIN, INT64_MAX, id, usable);
      } else if (field <= 2) {
        valid = json::read_integer(c, 0, INT32_MAX, size[field - 1], usable);
      } else if (field <= 4) {
        lists[field - 3].clear();
        valid = json::read_integers(c, lists[field - 3], usable);
      } else {
        names[field - 5].clear();
        valid = *start == 'n' ? c.skip_value() : json::read_text(c, names[field - 5], usable);  // null is no name
      }
      fields.note(field, usable, start);
      return valid;
    });
    for (int i = 0; i < 2; ++i) listed[i] = fields.has(3 + i);
    return object && fields.complete(c, kRequired);
  }
};

struct ImageColumns {
  Column<std::int64_t> id;
  Column<std::int32_t> size[2];
  Column<std::int64_t> list_length[2];  // -1: the image has no such list
  Column<std::int64_t> list_values[2];
  Column<std::int64_t> name_ends;
  Column<char> name_text;

  void add(const Image& image) {
    *id.extend(1) = image.id;
    const std::string& name = image.name();
    std::copy(name.begin(), name.end(), name_text.extend(name.size()));
    *name_ends.extend(1) = static_cast<std::int64_t>(name_text.size());
    for (int i = 0; i < 2; ++i) {
      const auto& list = image.lists[i];
      *size[i].extend(1) = static_cast<std::int32_t>(image.size[i]);
      *list_length[i].extend(1) = image.listed[i] ? static_cast<std::int64_t>(list.size()) : -1;
      std::copy(list.begin(), list.end(), list_values[i].extend(list.size()));
    }
  }

  Mapping* release(Mapping* out) {
    *out++ = id.release();
    for (auto* pair : {&list_length, &list_values}) {
      for (auto& column : *pair) *out++ = column.release();
    }
    for (auto& column : size) *out++ = column.release();
    *out++ = name_ends.release();
    *out++ = name_text.release();
    return out;
  }
};

struct Annotation {
  static constexpr std::array<json::Field, 7> kFields{{
      {"id\"", "an integer (int64)"},
      {"image_id\"", "an integer (int64)"},
      {"category_id\"", "an integer (int64)"},
      {"bbox\"", "a list of 4 numbers [x, y, width, height] within ±1e100"},
      {"area\"", "a finite number", " (area of the mask in pixels; write width * height where there are only boxes)"},
      {"iscrowd\"", "0 or 1"},
      {"ignore\"", "any value"},
  }};
  static constexpr unsigned kRequired = 0x1f;

  std::int64_t ids[3] = {0, 0, 0};  // annotation, image, category
  double values[5] = {0, 0, 0, 0, 0};  // x, y, w, h, area
  std::int64_t crowd = 0;              // -1: the field is missing
  bool ignore = false;

  bool read(json::Cursor& c) {
    ignore = false;
    json::Fields<kFields> fields;
    const bool object = json::parse_object<kFields>(c, [&](int field) {
      const char* start = c.p;
      bool usable = true, valid = true;
      if (field <= 2) {
        valid = json::read_integer(c, INT64_MIN, INT64_MAX, ids[field], usable);
      } else if (field == 3) {
        valid = json::read_box(c, values, usable);
      } else if (field == 4) {
        valid = json::read_number(c, values[4], usable);
      } else if (field == 5 && (*start == 't' || *start == 'f')) {
        valid = c.skip_value();
        crowd = *start == 't';
      } else if (field == 5) {
        valid = json::read_integer(c, 0, 1, crowd, usable);
      } else {
        valid = json::read_truth(c, ignore);
      }
      fields.note(field, usable, start);
      return valid;
    });
    if (!fields.has(5)) crowd = -1;
    return object && fields.complete(c, kRequired);
  }
};

struct AnnotationColumns {
  Column<std::int64_t> ids[3];
  Column<double> box;  // row by row
  Column<double> area;
  Column<std::int8_t> crowd;
  Column<std::uint8_t> ignore;

  void add(const Annotation& annotation) {
    for (int i = 0; i < 3; ++i) *ids[i].extend(1) = annotation.ids[i];
    std::copy(annotation.values, annotation.values + 4, box.extend(4));
    *area.extend(1) = annotation.values[4];
    *crowd.extend(1) = static_cast<std::int8_t>(annotation.crowd);
    *ignore.extend(1) = annotation.ignore;
  }

  Mapping* release(Mapping* out) {
    for (auto& column : ids) *out++ = column.release();
    *out++ = box.release();
    *out++ = area.release();
    *out++ = crowd.release();
    *out++ = ignore.release();
    return out;
  }
};

struct Category {
  std::int64_t begin = 0, end = 0;  // byte range of the record in the file

  bool read(json::Cursor& c) {
    begin = c.offset();
    if (*c.p != '{') return c.expected("an object");
    if (!c.skip_value()) return false;
    end = c.offset();
    return true;
  }
};

struct CategoryColumns {
  Column<std::int64_t> range;  // begin and end

  void add(const Category& category) {
    std::int64_t* both = range.extend(2);
    both[0] = category.begin;
    both[1] = category.end;
  }

  Mapping* release(Mapping* out) {
    *out++ = range.release();
    return out;
  }
};

// The records of one section that lie in one block.
template <class Record>
struct RecordBlock {
  std::vector<Record> records;

  bool parse(json::Cursor& c) { return next_.read(c); }
  void keep() { records.push_back(next_); }
  std::int64_t size() const { return static_cast<std::int64_t>(records.size()); }
  void clear() { records.clear(); }

 private:
  Record next_;
};

template <class Record, class Columns>
struct Section : Columns {
  bool present = false;

  void append(const RecordBlock<Record>& block) {
    for (const Record& record : block.records) this->add(record);
  }

  // Returns the offset after the list whose bracket opens just before `begin`.
  std::int64_t read(const Source& source, const char* name, int threads, std::int64_t block_bytes, std::int64_t begin) {
    if (present) throw std::runtime_error("section '" + std::string(name) + "' occurs twice");
    present = true;
    ArrayReader<RecordBlock<Record>, Section> reader(source, std::string(name) + " record ", threads, block_bytes, *this);
    const std::int64_t end = reader.read(begin);
    if (end < 0) throw std::runtime_error(reader.problem);
    return end;
  }
};

constexpr std::array<json::Field, 3> kSections{{{"images\"", ""}, {"annotations\"", ""}, {"categories\"", ""}}};

// Runs step(cursor) on the text from `offset` on, and reads more of the file until the step does not reach the end.
// Returns the offset at which the step stopped.
template <class Step>
std::int64_t advance(const Source& source, std::int64_t offset, Step&& step) {
  Window window(source);
  window.load(offset, offset + (1 << 16));
  for (;;) {
    json::Cursor c;
    window.place(c, offset);
    if (step(c) && c.p < c.end) return c.offset();
    if (!c.problem.empty()) throw std::runtime_error(c.problem);
    if (!window.extend(window.end_offset() - offset)) {
      throw std::runtime_error("the file ends before its top-level object does (truncated?)");
    }
  }
}

struct Document {
  Section<Image, ImageColumns> images;
  Section<Annotation, AnnotationColumns> annotations;
  Section<Category, CategoryColumns> categories;

  void read(const Source& source, int threads, std::int64_t block_bytes) {
    bool closed = false;
    std::int64_t at = advance(source, 0, [&](json::Cursor& c) {
      c.space();
      if (*c.p == '[') c.problem = "the top level is a list, an object with images, annotations and categories is needed (is this a results file?)";
      if (!c.problem.empty() || !c.take('{', "an object")) return false;
      c.space();
      closed = *c.p == '}';
      return true;
    });
    while (!closed) {
      int section = -1;
      at = advance(source, at, [&](json::Cursor& c) {
        if (!json::parse_key<kSections>(c, section)) return false;
        c.space();
        if (!c.take(':', "':'")) return false;
        c.space();
        if (section < 0) return c.skip_value();
        const std::string_view name = kSections[section].name;
        return c.take('[', ("section '" + std::string(name.substr(0, name.size() - 1)) + "' as a list").c_str());
      });
      if (section == 0) at = images.read(source, "images", threads, block_bytes, at);
      if (section == 1) at = annotations.read(source, "annotations", threads, block_bytes, at);
      if (section == 2) at = categories.read(source, "categories", threads, block_bytes, at);
      at = advance(source, at, [&](json::Cursor& c) {
        c.space();
        closed = *c.p == '}';
        if (closed) return c.p < c.end;
        if (!c.take(',', "',' or '}'")) return false;
        c.space();
        return true;
      });
    }
    require_end(source, at + 1);
    for (const auto& [name, present] : {std::pair("images", images.present), std::pair("annotations", annotations.present),
                                        std::pair("categories", categories.present)}) {
      if (!present) throw std::runtime_error("section '" + std::string(name) + "' is missing");
    }
  }
};

}  // namespace

// Columns: image id, lengths of neg and not-exhaustive lists, their values, width, height, ends of file names, their
// text; annotation, image and category id, box, area, crowd, ignore; byte ranges of the categories.
extern "C" void read_annotations(int descriptor, std::int64_t size, std::int32_t threads, std::int64_t block_bytes,
                                 Mapping* columns, Report* report) {
  report_errors(report, [&] {
    Document document;
    document.read(Source{descriptor, size}, threads, block_bytes);
    columns = document.images.release(columns);
    columns = document.annotations.release(columns);
    document.categories.release(columns);
  });
}
