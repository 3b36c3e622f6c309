// A long JSON array of records, parsed block by block in parallel, exactly.
// The file is cut into blocks of equal size; a record belongs to the block in which it starts. A worker guesses where
// the first record of its block starts (an opening brace after "},") and parses from there. Results are accepted in
// block order, and only if the guess is exactly where the parse of the blocks before ended; otherwise the block is
// parsed again from the right position. Whatever strings contain, the result is that of a sequential parse.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "file_window.h"

// Block: parse(Cursor&) parses one record, keep() adds it, size() counts the records added, clear() removes them.
// Sink: append(const Block&) appends a block's records, in file order.
template <class Block, class Sink>
class ArrayReader {
 public:
  ArrayReader(const Source& source, std::string noun, int threads, std::int64_t block_bytes, Sink& sink)
      : source_(source), noun_(std::move(noun)), threads_(threads), block_bytes_(block_bytes), sink_(sink) {}

  // Reads the array whose opening bracket ends at `begin`. Returns the offset after its closing bracket; -1: see
  // problem.
  std::int64_t read(std::int64_t begin) {
    if (!find_first(begin)) return end_;
    begin_ = chain_;
    blocks_ = (source_.size - begin_ + block_bytes_ - 1) / block_bytes_;
    const std::int64_t workers = std::min<std::int64_t>(threads_, blocks_);
    std::vector<std::thread> helpers;
    helpers.reserve(std::max<std::int64_t>(workers, 1));
    try {
      while (static_cast<std::int64_t>(helpers.size()) + 1 < workers) helpers.emplace_back([this] { work(); });
    } catch (const std::exception&) {
      // the system gives no more threads: fewer threads give the same result
    }
    work();
    for (std::thread& helper : helpers) helper.join();
    return end_;
  }

  std::string problem;

 private:
  enum class Outcome { kNext, kClosed, kFailed, kNotFound };

  // State of one worker that is kept between blocks.
  struct Worker {
    explicit Worker(const Source& source) : window(source) {}
    Window window;
    json::Cursor cursor;
    Block block;
    std::int64_t start = 0, next = 0;  // first record; next: position after the last one, or after the bracket
    std::string problem;               // of a failed parse; empty when the file ended
    bool behind = false;               // it failed after record block.size(), not inside
  };

  // Sets chain_ to the first record. False: the array is empty or broken, see end_.
  bool find_first(std::int64_t begin) {
    Window window(source_);
    window.load(begin, begin + 4096);
    json::Cursor c;
    for (;;) {
      window.place(c, begin);
      c.space();
      if (c.p < c.end) break;
      if (!window.extend(window.end_offset() - begin + 4096)) {
        fail("the file ends before the list does (truncated?)");
        return false;
      }
    }
    chain_ = c.offset();
    if (*c.p != ']') return true;
    end_ = chain_ + 1;
    return false;
  }

  void work() {
    try {
      Worker worker(source_);
      for (;;) {
        const std::int64_t k = claimed_++;
        if (k >= blocks_ || stopped_) return;
        const std::int64_t limit = std::min(begin_ + (k + 1) * block_bytes_, source_.size);
        constexpr std::int64_t kLead = 64, kTail = 16384;  // room for the separator before and the record after
        const std::int64_t first = begin_ + k * block_bytes_;
        worker.window.load(std::max(begin_, first - kLead), limit + kTail);
        Outcome outcome = k == 0 ? parse(worker, begin_, limit, false) : guess(worker, first, limit);

        std::unique_lock<std::mutex> lock(mutex_);
        turn_changed_.wait(lock, [&] { return turn_ == k || stopped_; });
        if (stopped_) return;
        if (chain_ < limit) {
          if (outcome == Outcome::kNotFound || worker.start != chain_) outcome = parse(worker, chain_, limit, false);
          take_over(worker, outcome);
        }
        ++turn_;
        turn_changed_.notify_all();
      }
    } catch (const std::bad_alloc&) {
      stop("needs more memory than there is");
    } catch (const std::exception& error) {
      stop(error.what());
    }
  }

  void take_over(Worker& worker, Outcome outcome) {
    if (outcome == Outcome::kFailed) {
      fail(describe(worker));
      return;
    }
    sink_.append(worker.block);
    records_ += worker.block.size();
    chain_ = worker.next;
    if (outcome == Outcome::kClosed) {
      end_ = chain_;
      stopped_ = true;
    }
  }

  void stop(const std::string& message) {
    const std::lock_guard<std::mutex> lock(mutex_);
    fail(message);
    turn_changed_.notify_all();
  }

  // The first failure counts, and none after the list is closed.
  void fail(const std::string& message) {
    if (stopped_) return;
    problem = message;
    stopped_ = true;
  }

  // Parses the block from a guessed first record; if no record starts there, the next guess is tried.
  Outcome guess(Worker& worker, std::int64_t first, std::int64_t limit) {
    for (int attempt = 0; attempt < 16; ++attempt) {
      first = next_candidate(worker.window, first, limit);
      if (first < 0) break;
      const Outcome outcome = parse(worker, first, limit, true);
      if (outcome == Outcome::kNotFound) break;
      if (outcome != Outcome::kFailed || worker.block.size() > 0) return outcome;
      ++first;
    }
    return Outcome::kNotFound;
  }

  // The first '{' in [from, limit) that follows "},"; -1 if there is none.
  static std::int64_t next_candidate(const Window& window, std::int64_t from, std::int64_t limit) {
    const char* text = window.text();
    const char* stop = text + (std::min(limit, window.end_offset()) - window.begin_offset());
    const auto before = [text](const char* p) {
      do {
        --p;
      } while (p >= text && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'));
      return p;
    };
    for (const char* p = text + (from - window.begin_offset()); p < stop; ++p) {
      p = static_cast<const char*>(std::memchr(p, '{', stop - p));
      if (p == nullptr) return -1;
      const char* comma = before(p);
      if (comma < text || *comma != ',') continue;
      const char* brace = before(comma);
      if (brace >= text && *brace == '}') return window.begin_offset() + (p - text);
    }
    return -1;
  }

  // Parses the records that start in [from, limit).
  Outcome parse(Worker& worker, std::int64_t from, std::int64_t limit, bool guessed) {
    json::Cursor& c = worker.cursor;
    worker.start = from;
    worker.block.clear();
    worker.window.place(c, from);
    for (;;) {
      const std::int64_t record = c.offset();
      const bool whole = worker.block.parse(c);
      bool closed = false;
      if (whole && separator(c, closed)) {
        worker.block.keep();
        worker.next = c.offset();
        if (closed) return Outcome::kClosed;
        if (worker.next >= limit) return Outcome::kNext;
        continue;
      }
      worker.behind = whole;
      worker.problem = c.problem;
      if (!c.problem.empty()) return Outcome::kFailed;
      if (guessed && worker.window.end_offset() - limit > block_bytes_) return Outcome::kNotFound;
      const std::int64_t seen = worker.window.end_offset() - record;
      if (!worker.window.extend(std::max<std::int64_t>(seen, 1 << 16))) return Outcome::kFailed;
      worker.window.place(c, record);
    }
  }

  // After a record: moves to the next one, or past the closing bracket.
  static bool separator(json::Cursor& c, bool& closed) {
    c.space();
    closed = *c.p == ']';
    if (!closed && *c.p != ',') return c.expected("',' or ']'");
    ++c.p;
    if (closed) return true;
    c.space();
    return c.p < c.end;
  }

  // What is wrong with the record at which the worker stopped.
  std::string describe(const Worker& worker) const {
    const std::string name = noun_ + std::to_string(records_ + worker.block.size());
    if (!worker.problem.empty()) return (worker.behind ? "after " : "") + name + ": " + worker.problem;
    return "the file ends " + std::string(worker.behind ? "after " : "inside ") + name +
           ", before the list does (truncated?)";
  }

  const Source source_;
  const std::string noun_;  // what the records are called in messages, before their number
  const int threads_;
  const std::int64_t block_bytes_;
  Sink& sink_;

  std::int64_t begin_ = 0, blocks_ = 0;
  std::atomic<std::int64_t> claimed_{0};  // blocks given to workers
  std::atomic<bool> stopped_{false};

  std::mutex mutex_;  // guards all below
  std::condition_variable turn_changed_;
  std::int64_t turn_ = 0;     // the block that is taken over next
  std::int64_t chain_ = 0;    // where its first record starts
  std::int64_t records_ = 0;  // taken over so far
  std::int64_t end_ = -1;     // after the closing bracket
};
