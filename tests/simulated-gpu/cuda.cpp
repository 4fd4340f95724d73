// A CUDA driver without a GPU, for tests: the calls of `libcuda` that relc makes, on memory of the host.
//
// It does late what a driver may do late, so that a wait that is missing shows. What is put on a stream runs when somebody
// waits for the stream, and not before: copies from and to pinned memory read and write it then. Streams don't wait for each
// other. Memory starts as NaN, and what is written beside it ends the process with a message; so does memory that is given
// back while something that is still to run uses it. The blocks of a launch, and the threads of a block up to where they
// wait for each other, run forwards or backwards, as it comes: what races gives other results from run to run. What the documentation of the driver's API forbids is refused, with its
// error: calls without a context, waits while a stream is captured, launches beyond the limits, addresses that are no memory's.
// A context that ends before all memory is given back ends the process.
//
// Kernels are those that `nvrtc.cpp` makes. RELC_SIMULATED_GPUS is the number of GPUs (1), RELC_SIMULATED_MEMORY the bytes that
// each has (1 GiB), and with RELC_SIMULATED_SPOILS=1 somebody waits for all that a GPU does whenever a stream is captured.

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

typedef int Result;
enum {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  INVALID_DEVICE = 101,
  INVALID_CONTEXT = 201,
  INVALID_PTX = 218,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  NOT_SUPPORTED = 801,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
};

#define CALL extern "C" __attribute__((visibility("default"))) Result

namespace {

[[noreturn]] void die(const char *what) {
  fprintf(stderr, "simulated GPU: %s\n", what);
  abort();
}

long setting(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text ? atol(text) : otherwise;
}

constexpr size_t EDGE = 256;
constexpr unsigned char MARK = 0xA5;

// Memory of the device, between edges that nobody writes to.
struct Memory {
  size_t bytes;
  int device;
};

// Something that a stream will do, and the memory of the host that it uses then.
struct Work {
  std::function<void()> run;
  const char *host = nullptr;
  size_t bytes = 0;
};

struct Stream {
  int device = 0;
  std::vector<Work> waiting;
  // 0: nothing is captured, 1: it is, 2: what was captured is of no use.
  int capture = 0;
  std::vector<Work> captured;
};

// A place in what a stream does.
struct Mark {
  Stream *stream;
  bool done = false;
  double at = 0;
};

struct Event {
  std::shared_ptr<Mark> mark;
};

struct Graph {
  std::vector<Work> work;
};

struct Module {
  void *library;
};

typedef void (*Launch)(void **, int, unsigned, unsigned, unsigned, bool);

struct Function {
  Launch launch;
  int pointers, threads;
};

std::recursive_mutex lock;
bool initialised = false;
std::map<char *, Memory> memories;
std::map<char *, size_t> pinned;
std::map<int, size_t> used;
std::map<int, Stream> defaults;
std::map<int, int> retained;
std::set<Stream *> streams;
std::map<std::pair<Module *, std::string>, std::unique_ptr<Function>> functions;
// A context is the place of its device in here.
char contexts[16];
thread_local char *current = nullptr;

int gpus() { return (int)setting("RELC_SIMULATED_GPUS", 1); }
size_t capacity() { return (size_t)setting("RELC_SIMULATED_MEMORY", 1l << 30); }
int device() { return (int)(current - contexts); }

Result ready() {
  if (!initialised) return NOT_INITIALIZED;
  if (!current) return INVALID_CONTEXT;
  return SUCCESS;
}

// The default stream is none.
Stream *stream_of(void *stream) {
  if (!stream) {
    defaults[device()].device = device();
    return &defaults[device()];
  }
  return streams.count((Stream *)stream) ? (Stream *)stream : nullptr;
}

// The memory that a byte is of.
std::map<char *, Memory>::iterator memory_of(const void *at) {
  auto it = memories.upper_bound((char *)at);
  if (it == memories.begin()) return memories.end();
  --it;
  return (char *)at < it->first + it->second.bytes ? it : memories.end();
}

bool within(const void *at, size_t bytes) {
  auto it = memory_of(at);
  return it != memories.end() && (size_t)((char *)at - it->first) + bytes <= it->second.bytes;
}

bool is_pinned(const void *at, size_t bytes) {
  auto it = pinned.upper_bound((char *)at);
  if (it == pinned.begin()) return false;
  --it;
  return (size_t)((char *)at - it->first) + bytes <= it->second;
}

void check_edges(char *start, size_t bytes) {
  for (size_t i = 0; i < EDGE; ++i)
    if ((unsigned char)start[-(long)EDGE + (long)i] != MARK || (unsigned char)start[bytes + i] != MARK)
      die("a kernel wrote outside the memory that it was given");
}

void drain(Stream *stream) {
  // Each thing is taken out first: what it waits for may look at this stream.
  while (!stream->waiting.empty()) {
    Work work = std::move(stream->waiting.front());
    stream->waiting.erase(stream->waiting.begin());
    work.run();
  }
  for (auto &[start, memory] : memories) check_edges(start, memory.bytes);
}

void drain_all() {
  for (auto &[number, stream] : defaults) drain(&stream);
  for (Stream *stream : streams) drain(stream);
}

Result put(Stream *stream, Work work) {
  if (stream->capture == 2) return CAPTURE_INVALIDATED;
  (stream->capture ? stream->captured : stream->waiting).push_back(std::move(work));
  return SUCCESS;
}

// Whether a call that may not be made while this thread captures is made all the same.
bool spoils_a_capture() {
  bool spoilt = false;
  for (Stream *stream : streams)
    if (stream->capture == 1 && stream->device == device()) stream->capture = 2, spoilt = true;
  return spoilt;
}

Result allocate(uint64_t *at, size_t bytes) {
  if (!bytes) return INVALID_VALUE;
  // What is to be given back is waited for.
  if (used[device()] + bytes > capacity()) drain_all();
  if (used[device()] + bytes > capacity()) return OUT_OF_MEMORY;
  const size_t rounded = (bytes + EDGE - 1) / EDGE * EDGE + 2 * EDGE;
  char *start = (char *)aligned_alloc(EDGE, rounded);
  if (!start) return OUT_OF_MEMORY;
  memset(start, MARK, rounded);
  start += EDGE;
  memset(start, 0xFF, bytes);
  memories[start] = {bytes, device()};
  used[device()] += bytes;
  *at = (uint64_t)start;
  return SUCCESS;
}

void release(char *start) {
  auto it = memories.find(start);
  if (it == memories.end()) die("memory is given back that is nobody's");
  check_edges(start, it->second.bytes);
  used[it->second.device] -= it->second.bytes;
  memories.erase(it);
  free(start - EDGE);
}

// Memory when something uses it, which may have been given back since it was asked for.
char *used_now(const void *at, size_t bytes) {
  if (!within(at, bytes)) die("memory is used after it was given back");
  return (char *)at;
}

Result copy_in(char *to, const char *from, size_t bytes, Stream *stream) {
  if (!within(to, bytes)) return INVALID_VALUE;
  if (is_pinned(from, bytes)) return put(stream, {[=] { memcpy(used_now(to, bytes), from, bytes); }, from, bytes});
  if (stream->capture) return stream->capture = 2, CAPTURE_UNSUPPORTED;
  // What is pageable is read at once, and written when it is its turn.
  auto data = std::make_shared<std::string>(from, bytes);
  return put(stream, {[=] { memcpy(used_now(to, bytes), data->data(), bytes); }});
}

Result copy_out(char *to, const char *from, size_t bytes, Stream *stream) {
  if (!within(from, bytes)) return INVALID_VALUE;
  if (is_pinned(to, bytes)) return put(stream, {[=] { memcpy(to, used_now(from, bytes), bytes); }, to, bytes});
  if (stream->capture) return stream->capture = 2, CAPTURE_UNSUPPORTED;
  drain(stream);
  memcpy(to, used_now(from, bytes), bytes);
  return SUCCESS;
}

// Forwards or backwards, as it comes: what depends on it differs from run to run.
bool toss() {
  static std::minstd_rand coin;
  return coin() & 64;
}

double now() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

#define LOCK std::lock_guard<std::recursive_mutex> guard(lock)
#define READY \
  LOCK;       \
  if (Result not_ready = ready()) return not_ready
#define ON(stream)                  \
  READY;                            \
  Stream *s = stream_of(stream);    \
  if (!s) return INVALID_HANDLE

CALL cuGetErrorName(Result error, const char **text) {
  static const std::map<Result, const char *> names = {
      {SUCCESS, "CUDA_SUCCESS"},
      {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
      {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
      {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
      {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
      {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
      {INVALID_PTX, "CUDA_ERROR_INVALID_PTX"},
      {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"},
      {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
      {NOT_READY, "CUDA_ERROR_NOT_READY"},
      {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"},
      {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED"},
      {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
      {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
  };
  auto it = names.find(error);
  *text = it == names.end() ? nullptr : it->second;
  return *text ? SUCCESS : INVALID_VALUE;
}

CALL cuGetErrorString(Result error, const char **text) { return cuGetErrorName(error, text); }

CALL cuInit(unsigned) {
  LOCK;
  initialised = true;
  return SUCCESS;
}

CALL cuDeviceGetCount(int *count) {
  if (!initialised) return NOT_INITIALIZED;
  *count = gpus();
  return SUCCESS;
}

CALL cuDeviceGet(int *device, int number) {
  if (number < 0 || number >= gpus()) return INVALID_DEVICE;
  *device = number;
  return SUCCESS;
}

CALL cuDeviceGetName(char *name, int bytes, int device) {
  snprintf(name, (size_t)bytes, "simulated GPU %d", device);
  return SUCCESS;
}

CALL cuDeviceGetAttribute(int *value, int attribute, int) {
  static const std::map<int, int> values = {
      {13, 1000000},  // CLOCK_RATE, kHz
      {16, 4},        // MULTIPROCESSOR_COUNT: few, so that tiles of all sizes occur in small networks
      {36, 2000000},  // MEMORY_CLOCK_RATE, kHz
      {37, 512},      // GLOBAL_MEMORY_BUS_WIDTH
      {75, 9},        // COMPUTE_CAPABILITY_MAJOR
      {76, 0},        // COMPUTE_CAPABILITY_MINOR
      {115, 1},       // MEMORY_POOLS_SUPPORTED
  };
  auto it = values.find(attribute);
  if (it == values.end()) return INVALID_VALUE;
  *value = it->second;
  return SUCCESS;
}

CALL cuDevicePrimaryCtxRetain(void **context, int device) {
  if (!initialised) return NOT_INITIALIZED;
  LOCK;
  ++retained[device];
  *context = contexts + device;
  return SUCCESS;
}

CALL cuDevicePrimaryCtxRelease_v2(int device) {
  LOCK;
  if (--retained[device]) return SUCCESS;
  drain_all();
  if (!pinned.empty()) die("pinned memory is not given back");
  for (auto &[start, memory] : memories)
    if (memory.device == device) die("memory is not given back");
  return SUCCESS;
}

CALL cuCtxGetCurrent(void **context) {
  *context = current;
  return SUCCESS;
}

CALL cuCtxSetCurrent(void *context) {
  current = (char *)context;
  return SUCCESS;
}

CALL cuCtxSynchronize() {
  READY;
  if (spoils_a_capture()) return CAPTURE_UNSUPPORTED;
  drain_all();
  return SUCCESS;
}

CALL cuMemGetInfo_v2(size_t *left, size_t *total) {
  READY;
  *total = capacity();
  *left = *total - used[device()];
  return SUCCESS;
}

CALL cuMemAlloc_v2(uint64_t *at, size_t bytes) {
  READY;
  if (spoils_a_capture()) return CAPTURE_UNSUPPORTED;
  return allocate(at, bytes);
}

CALL cuMemAllocAsync(uint64_t *at, size_t bytes, void *stream) {
  ON(stream);
  // A graph that has memory of its own is none that relc makes.
  if (s->capture) return NOT_SUPPORTED;
  return allocate(at, bytes);
}

CALL cuMemFree_v2(uint64_t at) {
  READY;
  drain_all();
  release((char *)at);
  return SUCCESS;
}

CALL cuMemFreeAsync(uint64_t at, void *stream) {
  ON(stream);
  if (s->capture) return NOT_SUPPORTED;
  return put(s, {[=] { release((char *)at); }});
}

CALL cuMemHostAlloc(void **at, size_t bytes, unsigned) {
  READY;
  if (!bytes) return INVALID_VALUE;
  *at = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (!*at) return OUT_OF_MEMORY;
  memset(*at, 0xFF, bytes);
  pinned[(char *)*at] = bytes;
  return SUCCESS;
}

CALL cuMemFreeHost(void *at) {
  LOCK;
  auto it = pinned.find((char *)at);
  if (it == pinned.end()) return INVALID_VALUE;
  const auto check = [&](Stream &stream) {
    for (Work &work : stream.waiting)
      if (work.host && work.host < it->first + it->second && it->first < work.host + work.bytes)
        die("pinned memory is given back while a copy is still to use it");
  };
  for (Stream *stream : streams) check(*stream);
  for (auto &[number, stream] : defaults) check(stream);
  pinned.erase(it);
  free(at);
  return SUCCESS;
}

CALL cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
  ON(stream);
  return copy_in((char *)to, (const char *)from, bytes, s);
}

CALL cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
  ON(stream);
  return copy_out((char *)to, (const char *)from, bytes, s);
}

CALL cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
  ON(stream);
  if (!within((void *)to, bytes) || !within((void *)from, bytes)) return INVALID_VALUE;
  return put(s, {[=] { memmove(used_now((void *)to, bytes), used_now((void *)from, bytes), bytes); }});
}

CALL cuMemsetD8Async(uint64_t at, unsigned char value, size_t count, void *stream) {
  ON(stream);
  if (!within((void *)at, count)) return INVALID_VALUE;
  return put(s, {[=] { memset(used_now((void *)at, count), value, count); }});
}

CALL cuStreamCreate(void **stream, unsigned flags) {
  READY;
  // Those that wait for the default stream are none that relc makes.
  if (flags != 1) return NOT_SUPPORTED;
  Stream *made = new Stream;
  made->device = device();
  streams.insert(made);
  *stream = made;
  return SUCCESS;
}

CALL cuStreamDestroy_v2(void *stream) {
  ON(stream);
  // Marks in it are done then.
  drain(s);
  streams.erase(s);
  delete s;
  return SUCCESS;
}

CALL cuStreamSynchronize(void *stream) {
  ON(stream);
  if (s->capture) return s->capture = 2, CAPTURE_UNSUPPORTED;
  drain(s);
  return SUCCESS;
}

CALL cuStreamWaitEvent(void *stream, void *event, unsigned) {
  ON(stream);
  if (s->capture) return NOT_SUPPORTED;
  const std::shared_ptr<Mark> mark = ((Event *)event)->mark;
  if (!mark) return SUCCESS;
  return put(s, {[=] {
               if (!mark->done) drain(mark->stream);
             }});
}

CALL cuStreamBeginCapture_v2(void *stream, int) {
  ON(stream);
  if (!stream) return CAPTURE_UNSUPPORTED;
  if (s->capture) return INVALID_VALUE;
  s->capture = 1;
  return SUCCESS;
}

CALL cuStreamIsCapturing(void *stream, int *status) {
  ON(stream);
  *status = s->capture;
  return SUCCESS;
}

CALL cuStreamEndCapture(void *stream, void **graph) {
  ON(stream);
  const int capture = setting("RELC_SIMULATED_SPOILS", 0) ? 2 : s->capture;
  std::vector<Work> work = std::move(s->captured);
  s->capture = 0;
  s->captured.clear();
  *graph = nullptr;
  if (capture != 1) return capture ? CAPTURE_INVALIDATED : INVALID_VALUE;
  *graph = new Graph{std::move(work)};
  return SUCCESS;
}

CALL cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long) {
  READY;
  *executable = new Graph(*(Graph *)graph);
  return SUCCESS;
}

CALL cuGraphLaunch(void *executable, void *stream) {
  ON(stream);
  for (const Work &work : ((Graph *)executable)->work)
    if (Result result = put(s, work)) return result;
  return SUCCESS;
}

CALL cuGraphExecDestroy(void *executable) {
  delete (Graph *)executable;
  return SUCCESS;
}

CALL cuGraphDestroy(void *graph) {
  delete (Graph *)graph;
  return SUCCESS;
}

CALL cuEventCreate(void **event, unsigned) {
  READY;
  *event = new Event;
  return SUCCESS;
}

CALL cuEventDestroy_v2(void *event) {
  LOCK;
  delete (Event *)event;
  return SUCCESS;
}

CALL cuEventRecord(void *event, void *stream) {
  ON(stream);
  if (s->capture) return NOT_SUPPORTED;
  const std::shared_ptr<Mark> mark = std::make_shared<Mark>(Mark{s});
  ((Event *)event)->mark = mark;
  return put(s, {[=] {
               mark->at = now();
               mark->done = true;
             }});
}

CALL cuEventSynchronize(void *event) {
  READY;
  const std::shared_ptr<Mark> mark = ((Event *)event)->mark;
  if (mark && !mark->done) drain(mark->stream);
  return SUCCESS;
}

CALL cuEventElapsedTime(float *ms, void *start, void *end) {
  READY;
  const std::shared_ptr<Mark> s = ((Event *)start)->mark, e = ((Event *)end)->mark;
  if (!s || !e) return INVALID_HANDLE;
  if (!s->done || !e->done) return NOT_READY;
  *ms = (float)(e->at - s->at);
  return SUCCESS;
}

// What `nvrtc.cpp` wrote: a line that says so, a library in hexadecimal digits, and its end.
CALL cuModuleLoadData(void **module, const void *image) {
  READY;
  static const char header[] = "// simulated\n";
  const char *text = (const char *)image;
  if (strncmp(text, header, strlen(header))) return INVALID_PTX;
  text += strlen(header);
  std::string bytes;
  for (; text[0] && text[0] != '.' && text[1]; text += 2) {
    auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    bytes.push_back((char)(digit(text[0]) * 16 + digit(text[1])));
  }
  if (text[0] != '.') return INVALID_PTX;
  char name[] = "/tmp/simulated-gpu-XXXXXX";
  const int file = mkstemp(name);
  if (file < 0) die("no temporary file");
  const bool written = write(file, bytes.data(), bytes.size()) == (ssize_t)bytes.size();
  close(file);
  void *library = written ? dlopen(name, RTLD_NOW | RTLD_LOCAL) : nullptr;
  unlink(name);
  if (!library) return INVALID_PTX;
  *module = new Module{library};
  return SUCCESS;
}

CALL cuModuleGetFunction(void **function, void *module, const char *name) {
  READY;
  Module *m = (Module *)module;
  const auto find = [&](const char *what) { return dlsym(m->library, (what + std::string(name)).c_str()); };
  void *launch = find("launch_"), *pointers = find("pointers_"), *threads = find("threads_");
  if (!launch || !pointers || !threads) return NOT_FOUND;
  std::unique_ptr<Function> &known = functions[{m, name}];
  known.reset(new Function{(Launch)launch, *(int *)pointers, *(int *)threads});
  *function = known.get();
  return SUCCESS;
}

CALL cuModuleUnload(void *module) {
  LOCK;
  drain_all();
  Module *m = (Module *)module;
  for (auto it = functions.begin(); it != functions.end();) it = it->first.first == m ? functions.erase(it) : ++it;
  dlclose(m->library);
  delete m;
  return SUCCESS;
}

CALL cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned ty, unsigned tz,
                    unsigned shared, void *stream, void **parameters, void **extra) {
  ON(stream);
  const Function *f = (Function *)function;
  if (!x || !y || !z || x > 2147483647u || y > 65535 || z > 65535) return INVALID_VALUE;
  if (threads != (unsigned)f->threads || ty != 1 || tz != 1 || shared || extra) return INVALID_VALUE;
  std::vector<void *> pointers;
  for (int i = 0; i < f->pointers; ++i) {
    pointers.push_back(*(void **)parameters[i]);
    if (!within(pointers.back(), 1)) return ILLEGAL_ADDRESS;
  }
  const int samples = *(int *)parameters[f->pointers];
  const Launch launch = f->launch;
  return put(s, {[=]() mutable {
               for (void *pointer : pointers) used_now(pointer, 1);
               launch(pointers.data(), samples, x, y, z, toss());
             }});
}
