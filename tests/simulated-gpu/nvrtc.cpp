// NVRTC without CUDA, for tests: it compiles kernels as C++ for the host (see RELC_HOST in relc's prelude), for the driver of
// `cuda.cpp`. The compiler is `c++`, or what CXX says.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#define CALL extern "C" __attribute__((visibility("default"))) int

enum { SUCCESS = 0, PROGRAM_CREATION_FAILURE = 2, INVALID_OPTION = 5, COMPILATION = 6 };

namespace {

struct Program {
  std::string source, log, ptx;
};

std::string read(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// What launches each kernel of a text, block by block, with the number of its pointers and of its threads. A kernel is
// declared in a line of its own, `KERNEL(threads) name(pointers, int n) {`.
std::string launchers(const std::string &source) {
  static const std::regex declared("(?:^|\n)KERNEL\\((\\d+)\\) (\\w+)\\(([^)]*)\\) \\{");
  std::ostringstream text;
  for (std::sregex_iterator it(source.begin(), source.end(), declared), end; it != end; ++it) {
    const std::string threads = (*it)[1], name = (*it)[2], parameters = (*it)[3];
    std::string casts;
    int pointers = 0;
    std::istringstream list(parameters);
    for (std::string parameter; std::getline(list, parameter, ',');) {
      const size_t star = parameter.find('*');
      if (star == std::string::npos) continue;
      casts += "(" + parameter.substr(0, star + 1) + ")a[" + std::to_string(pointers++) + "], ";
    }
    text << "extern \"C\" {\nextern const int pointers_" << name << " = " << pointers << ", threads_" << name << " = " << threads
         << ";\nvoid launch_" << name << "(void **a, int n, unsigned x, unsigned y, unsigned z, bool order) {\n"
         << "  gridDim = {x, y, z};\n  backwards = order;\n  for (unsigned k = 0; k < z; ++k)\n    for (unsigned j = 0; j < y; ++j)\n"
         << "      for (unsigned i = 0; i < x; ++i) {\n        blockIdx = {order ? x - 1 - i : i, order ? y - 1 - j : j, order ? z - 1 - k : k};\n"
         << "        " << name << "(" << casts << "n);\n      }\n}\n}\n";
  }
  return text.str();
}

}  // namespace

CALL nvrtcCreateProgram(void **program, const char *source, const char *, int headers, const char *const *,
                        const char *const *) {
  if (headers) return PROGRAM_CREATION_FAILURE;
  *program = new Program{source, "", ""};
  return SUCCESS;
}

CALL nvrtcDestroyProgram(void **program) {
  delete (Program *)*program;
  *program = nullptr;
  return SUCCESS;
}

CALL nvrtcCompileProgram(void *program, int count, const char *const *options) {
  Program *p = (Program *)program;
  // What the results depend on has to be asked for.
  std::set<std::string> asked(options, options + count);
  for (const char *option : {"--gpu-architecture=compute_90", "--std=c++17", "--fmad=false"})
    if (!asked.count(option)) return INVALID_OPTION;
  char folder[] = "/tmp/simulated-nvrtc-XXXXXX";
  if (!mkdtemp(folder)) return PROGRAM_CREATION_FAILURE;
  const std::string base = folder, source = base + "/kernels.cpp", library = base + "/kernels.so", log = base + "/log";
  std::ofstream(source) << p->source << launchers(p->source);
  const char *compiler = getenv("CXX") ? getenv("CXX") : "c++";
  std::string command = std::string(compiler) +
                        " -std=c++17 -O1 -shared -fPIC -ffp-contract=off -Wall -Wextra -Werror -Wno-unused-function"
                        " -Wno-unused-parameter -Wno-type-limits -DRELC_HOST";
#ifdef __x86_64__
  if (__builtin_cpu_supports("fma")) command += " -mfma";
#endif
  const int status = system((command + " -o " + library + " " + source + " 2> " + log).c_str());
  p->log = read(log);
  const std::string bytes = status == 0 ? read(library) : "";
  for (const std::string &file : {source, library, log}) unlink(file.c_str());
  rmdir(folder);
  if (bytes.empty()) return COMPILATION;
  static const char digits[] = "0123456789abcdef";
  p->ptx = "// simulated\n";
  for (unsigned char byte : bytes) p->ptx += digits[byte / 16], p->ptx += digits[byte % 16];
  p->ptx += '.';
  return SUCCESS;
}

CALL nvrtcGetPTXSize(void *program, size_t *bytes) {
  *bytes = ((Program *)program)->ptx.size() + 1;
  return SUCCESS;
}

CALL nvrtcGetPTX(void *program, char *text) {
  strcpy(text, ((Program *)program)->ptx.c_str());
  return SUCCESS;
}

CALL nvrtcGetProgramLogSize(void *program, size_t *bytes) {
  *bytes = ((Program *)program)->log.size() + 1;
  return SUCCESS;
}

CALL nvrtcGetProgramLog(void *program, char *text) {
  strcpy(text, ((Program *)program)->log.c_str());
  return SUCCESS;
}
