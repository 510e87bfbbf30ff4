#include "ptx_program.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <sstream>

#include "threads.h"

namespace emulator {
namespace {

std::string trimmed(const std::string& text) {
  size_t begin = text.find_first_not_of(" \t\n"), end = text.find_last_not_of(" \t\n");
  return begin == std::string::npos ? "" : text.substr(begin, end - begin + 1);
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(trimmed(part));
  return parts;
}

class Parser {
 public:
  PtxProgram parse(const std::string& text) {
    for (std::string statement : split(text, ';')) {
      // Braces around statements are scopes; those in them are vectors.
      while (!statement.empty() && (statement[0] == '{' || statement[0] == '}'))
        statement = trimmed(statement.substr(1));
      if (!statement.empty()) add(statement);
    }
    program_.registers = registers_.size();
    return std::move(program_);
  }

 private:
  void add(std::string statement) {
    if (statement.rfind(".reg", 0) == 0) return;  // registers begin with their first use
    PtxInstruction instruction;
    if (statement[0] == '@') {
      size_t blank = statement.find_first_of(" \t");
      instruction.guard_is_negated = statement[1] == '!';
      instruction.guard = register_of(statement.substr(1 + instruction.guard_is_negated,
                                                       blank - 1 - instruction.guard_is_negated));
      statement = trimmed(statement.substr(blank));
    }
    size_t blank = statement.find_first_of(" \t\n");
    instruction.words = split(statement.substr(0, blank), '.');
    if (blank != std::string::npos) {
      std::string operands = statement.substr(blank);
      for (char& c : operands)
        if (strchr("{}[]", c)) c = ' ';
      for (const std::string& one : split(operands, ','))
        if (!one.empty()) instruction.operands.push_back(operand(one));
    }
    for (auto find : {scalar_function, memory_function, matrix_function})
      if (!instruction.run) instruction.run = find(instruction);
    if (!instruction.run)
      gpu_fail(("the emulator does not know the instruction " + instruction.name()).c_str());
    program_.instructions.push_back(std::move(instruction));
  }

  PtxOperand operand(const std::string& text) {
    size_t plus = text.find('+');
    std::string name = trimmed(text.substr(0, plus));
    int64_t offset = plus == std::string::npos ? 0 : atoll(text.c_str() + plus + 1);
    if (name[0] == '%' && isdigit(name[1]))
      return {PtxOperand::kGiven, uint64_t(atoi(name.c_str() + 1)), offset};
    if (isdigit(name[0]) || name[0] == '-') {
      if (name.rfind("0f", 0) == 0 || name.rfind("0F", 0) == 0)  // the bits of a float
        return {PtxOperand::kImmediate, strtoull(name.c_str() + 2, nullptr, 16), 0};
      return {PtxOperand::kImmediate, uint64_t(strtoll(name.c_str(), nullptr, 0)), 0};
    }
    return {PtxOperand::kRegister, uint64_t(register_of(name)), offset};
  }

  int register_of(const std::string& name) {
    return int(registers_.emplace(name, registers_.size()).first->second);
  }

  PtxProgram program_;
  std::map<std::string, size_t> registers_;
};

}  // namespace

bool PtxInstruction::has(const char* word) const {
  for (const std::string& one : words)
    if (one == word) return true;
  return false;
}

std::string PtxInstruction::name() const {
  std::string joined;
  for (const std::string& word : words) joined += (joined.empty() ? "" : ".") + word;
  return joined;
}

PtxProgram parse_ptx(const std::string& text) { return Parser().parse(text); }

uint64_t PtxRun::get(const PtxOperand& operand) const {
  switch (operand.kind) {
    case PtxOperand::kGiven:
      return given_[operand.number].bits + operand.offset;
    case PtxOperand::kRegister:
      return registers_[operand.number] + operand.offset;
    default:
      return operand.number;
  }
}

void PtxRun::set(const PtxOperand& operand, uint64_t bits) {
  if (operand.kind == PtxOperand::kRegister) {
    registers_[operand.number] = bits;
    return;
  }
  GpuOperand& given = given_[operand.number];
  if (operand.kind != PtxOperand::kGiven || !given.place)
    gpu_fail(("an instruction writes what is no output, line " + std::to_string(line)).c_str());
  given.bits = 0;
  memcpy(&given.bits, &bits, given.bytes);
  memcpy(given.place, &bits, given.bytes);
}

float PtxRun::real(const PtxOperand& operand) const {
  uint32_t bits = word(operand);
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

void PtxRun::set_real(const PtxOperand& operand, float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  set(operand, bits);
}

}  // namespace emulator

using namespace emulator;

void* gpu_ptx_parse(const char* text) { return new PtxProgram(parse_ptx(text)); }

void gpu_ptx_run(void* parsed, GpuOperand* operands, int line) {
  auto* program = static_cast<const PtxProgram*>(parsed);
  PtxRun run(operands, program->registers, line);
  for (const PtxInstruction& instruction : program->instructions) {
    if (instruction.guard >= 0) {
      PtxOperand guard{PtxOperand::kRegister, uint64_t(instruction.guard)};
      if ((run.get(guard) != 0) == instruction.guard_is_negated) continue;
    }
    instruction.run(run, instruction);
  }
}
