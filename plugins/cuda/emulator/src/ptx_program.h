// Inline PTX, read once for each place in the kernels' text.
#pragma once
#include <string>
#include <vector>

#include "ptx.h"

namespace emulator {

struct PtxOperand {
  enum Kind { kGiven, kRegister, kImmediate } kind;
  uint64_t number;     // which one of those given or of the registers, or the value
  int64_t offset = 0;  // in an address: [%0 + 16]
};

class PtxRun;

struct PtxInstruction {
  std::vector<std::string> words;    // the name, without its points: cp, async, cg, ...
  std::vector<PtxOperand> operands;  // those of vectors one by one
  int guard = -1;                    // the register of a predicate, @p, or none
  bool guard_is_negated = false;
  void (*run)(PtxRun&, const PtxInstruction&) = nullptr;

  bool has(const char* word) const;
  std::string name() const;
};

struct PtxProgram {
  std::vector<PtxInstruction> instructions;
  size_t registers = 0;
};

PtxProgram parse_ptx(const std::string& text);

// The instruction's function, or null for one that the emulator does not know.
using PtxFunction = void (*)(PtxRun&, const PtxInstruction&);
PtxFunction scalar_function(const PtxInstruction& instruction);
PtxFunction memory_function(const PtxInstruction& instruction);
PtxFunction matrix_function(const PtxInstruction& instruction);

// The operands while a thread executes a program.
class PtxRun {
 public:
  PtxRun(GpuOperand* given, size_t registers, int line)
      : line(line), given_(given), registers_(registers) {}

  uint64_t get(const PtxOperand& operand) const;
  void set(const PtxOperand& operand, uint64_t bits);

  uint32_t word(const PtxOperand& operand) const { return uint32_t(get(operand)); }
  float real(const PtxOperand& operand) const;
  void set_real(const PtxOperand& operand, float value);

  const int line;

 private:
  GpuOperand* given_;
  std::vector<uint64_t> registers_;
};

}  // namespace emulator
