// Instructions that load, store, and copy to shared memory beside the computation.
#include <cstring>
#include <deque>
#include <vector>

#include "access.h"
#include "ptx_copies.h"
#include "ptx_program.h"
#include "shared_window.h"

namespace emulator {
namespace {

struct Copy {
  unsigned char* to;
  const unsigned char* from;
  size_t bytes, given;  // the rest is zeros
};

// The copies of each thread that are under way, in groups; the last group is not closed yet.
std::vector<std::deque<std::vector<Copy>>> copies(1024);

std::deque<std::vector<Copy>>& own_groups() {
  auto& groups = copies[gpu_thread_number()];
  if (groups.empty()) groups.emplace_back();
  return groups;
}

unsigned char* place(PtxRun& run, const PtxOperand& address, bool shared, size_t bytes) {
  uint64_t value = run.get(address);
  if (value % bytes) gpu_fail(("a misaligned address, line " + std::to_string(run.line)).c_str());
  return shared ? shared_place(uint32_t(value), bytes) : reinterpret_cast<unsigned char*>(value);
}

size_t item_bytes(const PtxInstruction& code) {
  const std::string& type = code.words.back();
  return size_t(atoi(type.c_str() + 1)) / 8;
}

size_t item_count(const PtxInstruction& code) {
  return code.has("v4") ? 4 : code.has("v2") ? 2 : 1;
}

bool is_shared(const PtxInstruction& code) { return code.has("shared") || code.has("shared::cta"); }

void load(PtxRun& run, const PtxInstruction& code) {
  size_t bytes = item_bytes(code), count = item_count(code);
  auto* from = place(run, code.operands[count], is_shared(code), bytes * count);
  gpu_access(from, bytes * count, kGpuRead);
  for (size_t i = 0; i < count; ++i) {
    uint64_t bits = 0;
    memcpy(&bits, from + i * bytes, bytes);
    run.set(code.operands[i], bits);
  }
}

void store(PtxRun& run, const PtxInstruction& code) {
  size_t bytes = item_bytes(code), count = item_count(code);
  auto* to = place(run, code.operands[0], is_shared(code), bytes * count);
  gpu_access(to, bytes * count, kGpuWrite);
  for (size_t i = 0; i < count; ++i) {
    uint64_t bits = run.get(code.operands[1 + i]);
    memcpy(to + i * bytes, &bits, bytes);
  }
}

// The copy is made when it is waited for. Until then NaNs are there, for who reads too early, and
// in the place of what is overwritten too early.
void begin_copy(PtxRun& run, const PtxInstruction& code) {
  size_t bytes = run.get(code.operands[2]), given = bytes;
  if (code.operands.size() > 3) given = run.word(code.operands[3]);
  if (given > bytes) gpu_fail("a copy of more bytes than there is room for");
  auto* to = place(run, code.operands[0], true, bytes);
  auto* from = place(run, code.operands[1], false, bytes);
  gpu_access(to, bytes, kGpuWrite);
  if (given) gpu_access(from, given, kGpuRead);
  memset(to, 0xff, bytes);
  own_groups().back().push_back({to, from, bytes, given});
}

void close_group(PtxRun&, const PtxInstruction&) { own_groups().emplace_back(); }

void finish_all_but(size_t groups) {
  auto& own = own_groups();
  for (; own.size() > groups; own.pop_front())
    for (const Copy& copy : own.front()) {
      memcpy(copy.to, copy.from, copy.given);
      memset(copy.to + copy.given, 0, copy.bytes - copy.given);
    }
}

// One more stays, which is not closed.
void wait_group(PtxRun& run, const PtxInstruction& code) {
  finish_all_but(run.get(code.operands[0]) + 1);
}

void wait_all(PtxRun&, const PtxInstruction&) { finish_all_but(0); }

void make_policy(PtxRun& run, const PtxInstruction& code) { run.set(code.operands[0], 0); }

}  // namespace

PtxFunction memory_function(const PtxInstruction& code) {
  if (code.words[0] == "ld") return load;
  if (code.words[0] == "st") return store;
  if (code.words[0] == "createpolicy") return make_policy;
  if (code.words[0] != "cp" || !code.has("async") || code.has("bulk")) return nullptr;
  if (code.has("commit_group")) return close_group;
  if (code.has("wait_group")) return wait_group;
  if (code.has("wait_all")) return wait_all;
  return is_shared(code) ? begin_copy : nullptr;
}

void begin_block_copies() {
  for (auto& groups : copies) groups.clear();
}

}  // namespace emulator
