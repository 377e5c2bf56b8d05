// ktjit's C interface: kernels for quantised models, compiled for exactly this device, inside your
// application. C99 and C++; needs no other header of ktjit, CUDA or LLVM.
//
// Handles are opaque and independent of each other's end: a kernel keeps what it needs of its
// device and context alive, so they may be destroyed in any order. Destroying null does nothing.
//
// Errors:  every function that can fail returns a ktjit_status; ktjit_last_error() then has the
//          message. No function ends the process, prints, or lets an exception out.
// Threads: all functions may be called from several threads, with the same handles too; only a
//          destroy must be the last use of its handle.
// Structs: begin with struct_size, set by their _init function. A library older than your header takes
//          a longer struct as long as the fields it doesn't know are zero; a newer one takes a
//          shorter struct. Zero is every field's default.
// Strings: UTF-8, zero-terminated. Those returned belong to the handle and live as long as it.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define KTJIT_ABI_VERSION 1

#if defined(_WIN32)
#error "ktjit is for Linux"
#endif
#define KTJIT_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

// ktjit_options options = ktjit_options_init(); all zero but struct_size.
#define KTJIT_DEFINE_INIT_(type)         \
  static inline type type##_init(void) { \
    type value;                          \
    memset(&value, 0, sizeof(value));    \
    value.struct_size = sizeof(value);   \
    return value;                        \
  }

// What went wrong, by who has to act.
typedef enum ktjit_status {
  KTJIT_OK = 0,
  KTJIT_ERROR_SPEC = 1,       // caller: an argument is not allowed, or not served yet
  KTJIT_ERROR_INPUT = 2,      // owner of a file: it is damaged or odd
  KTJIT_ERROR_TOOLCHAIN = 3,  // machine: a device, library or compiler is missing or too old
  KTJIT_ERROR_COMPILE = 4,    // ktjit: a compiler refused its text
  KTJIT_ERROR_DRIVER = 5,     // machine: the GPU driver, or the CPU's loader, refused a call
  KTJIT_ERROR_INTERNAL = 6,   // ktjit: a condition that its own code guarantees does not hold
  KTJIT_ERROR_MEMORY = 7,     // machine: out of host memory
  KTJIT_ERROR_CAPTURE = 8,    // caller: a kernel was to be loaded while a stream is being captured
  KTJIT_ERROR_SEALED = 9,  // packs and cache: a kernel is missing, and sealed mode compiles nothing
  KTJIT_ERROR_INTERRUPTED = 10  // caller: it was cancelled
} ktjit_status;

// KTJIT_ABI_VERSION of the loaded library. Raised only when something is taken away or changed.
KTJIT_API uint32_t ktjit_abi_version(void);
// Of the library, for people: "0.1.0".
KTJIT_API const char* ktjit_version(void);
// "KTJIT_ERROR_SPEC"; "unknown status" for other numbers.
KTJIT_API const char* ktjit_status_name(ktjit_status status);
// Message of the last call of this thread that failed, "" if none did: lower case, one or more
// lines. Valid until the next call of this thread that fails.
KTJIT_API const char* ktjit_last_error(void);

// ---- context: compilers and cache -------------------------------------------------------------

typedef struct ktjit_context ktjit_context;

// Null and 0: as the environment says (KTJIT_CACHE_DIR and so on, docs/EMBEDDING.md), else the
// default.
typedef struct ktjit_options {
  size_t struct_size;
  const char* cache_dir;   // compiled kernels are kept here; default ~/.cache/ktjit
  const char* cache_path;  // packs and folders that are only read, ':' between them
  int32_t cache_off;       // not 0: nothing is kept on disk
  int32_t threads;         // for compiles and for the CPU device; default: as many as allowed
  const char* nvrtc;       // libnvrtc.so or its folder; nothing else is tried then
  const char* cuda_home;   // a CUDA toolkit
  const char* python_environment;  // where NVIDIA's wheels may be
  const char* worker;    // the program ktjit-llvm; default: near this library, then near the
                         // running program
  const char* dump_dir;  // where text that a compiler refused is saved
  // Gets warnings (a cache that can't be written, and the like), from any thread.
  void (*log)(void* log_data, const char* line);
  void* log_data;
  const char* cache_shared;  // those of cache_dir and cache_path that several users write
  uint64_t cache_max_bytes;  // what cache_dir may hold; default 2 GiB; UINT64_MAX: no limit
  int32_t sealed;            // not 0: nothing is compiled, a missing kernel is an error
  int32_t tuning_off;        // not 0: knobs that 'ktjit tune' measured are not used
} ktjit_options;
KTJIT_DEFINE_INIT_(ktjit_options)

// Looks for compilers, opens none. `options` may be null.
KTJIT_API ktjit_status ktjit_context_create(const ktjit_options* options, ktjit_context** context);
KTJIT_API void ktjit_context_destroy(ktjit_context* context);

// ---- devices ----------------------------------------------------------------------------------

typedef struct ktjit_device ktjit_device;

// Runs the CPU device's work in place of ktjit's threads.
typedef struct ktjit_executor {
  size_t struct_size;
  void* data;
  int32_t concurrency;  // how many threads take part, at least 1
  // Calls body(body_data, begin, end) for ranges that cover [0, count) exactly once, possibly in
  // parallel, and returns when all are done.
  void (*parallel_for)(void* data, int64_t count,
                       void (*body)(void* body_data, int64_t begin, int64_t end), void* body_data);
} ktjit_executor;
KTJIT_DEFINE_INIT_(ktjit_executor)

// "cuda", "cuda:1" (with the primary context, as the CUDA runtime and torch use it), "cpu"; null or
// "": the first GPU, else the CPU.
KTJIT_API ktjit_status ktjit_device_open(ktjit_context* context, const char* name,
                                         ktjit_device** device);
// The CPU with the caller's threads.
KTJIT_API ktjit_status ktjit_device_open_cpu(ktjit_context* context, const ktjit_executor* executor,
                                             ktjit_device** device);
// A GPU with the caller's CUcontext, which must outlive the device and its kernels.
KTJIT_API ktjit_status ktjit_device_adopt_cuda(ktjit_context* context, void* cu_context,
                                               ktjit_device** device);
KTJIT_API void ktjit_device_destroy(ktjit_device* device);

KTJIT_API const char* ktjit_device_name(const ktjit_device* device);         // "cuda:0", "cpu"
KTJIT_API const char* ktjit_device_description(const ktjit_device* device);  // for people
KTJIT_API const char* ktjit_device_target(const ktjit_device* device);       // "sm_90a", "cpu"

// Memory for those who have no allocator; any other memory of the device serves as well. A stream
// is a CUstream (cudaStream_t), null the default stream; on the CPU it must be null.
typedef uint64_t ktjit_address;  // as the device sees it: CUdeviceptr, or a pointer of this process

// Aligned to 256 bytes, contents undefined. Not for a launch path: it may wait for the device.
KTJIT_API ktjit_status ktjit_allocate(ktjit_device* device, size_t bytes, ktjit_address* address);
// Frees what ktjit_allocate gave. Errors: KTJIT_ERROR_SPEC for another address.
KTJIT_API ktjit_status ktjit_free(ktjit_device* device, ktjit_address address);
// Queue a copy into or out of memory that ktjit_allocate gave, at `address` or behind it. `from`
// must live, and `to` must not be read, until the stream is synchronised.
KTJIT_API ktjit_status ktjit_upload(ktjit_device* device, void* stream, const void* from,
                                    ktjit_address to, size_t bytes);
KTJIT_API ktjit_status ktjit_download(ktjit_device* device, void* stream, ktjit_address from,
                                      void* to, size_t bytes);
KTJIT_API ktjit_status ktjit_synchronize(ktjit_device* device, void* stream);

// ---- kernels ----------------------------------------------------------------------------------

// What a kernel does. w is a matrix [rows, cols] of a quantised format, row-major; rows come with
// the launch, so one kernel serves many tensors.
//   dequant   y[r, c] = decode(w)[r, c] (* scale)
//   matvec    y[j, r] = sum over c of decode(w)[r, c] * x[j, c] (+ bias[r]), up to 8 rows j of x
//   matmul    the same for any number of rows of x
//   moe_matvec  y[s, r] = sum over c of decode(w)[ids[s], r, c] * x[s / slots_per_x, c] (+ bias[ids[s], r]):
//             w is a stack of experts [experts, rows, cols], the ids lie on the device. Rows of y whose id
//             is no expert's become NaN, and nothing is read for them
//   moe_matmul  the same for many slots: those of an expert are multiplied together, in one launch
// Fused with matvec: a gate, or several matrices that share x in one launch, or a residual; with moe_matvec
// and moe_matmul a gate. These are launched by ktjit_kernel_launch_counts.
//   quantize  w[r, c] = encode(x[r, c] / scale), the scale of each group chosen from its largest |x|: to
//             FP8, with f32 or e8m0 scales of blocks of 1 and more rows, or none; mxfp8_*, mxfp6_*, mxfp4,
//             nvfp4; q8_0, q4_0; bare fp6_*, fp4_*
//   nan_scan  found = 1 if any code of w is a NaN, else found is left as it is
//   prepare   y = w rearranged for matvec on GPUs (sm_61, and sm_70 on), for ggml's block formats that have this layout;
//             ktjit_prepared_bytes says how large y is. Kernels with layout "prepared" read it: matvec,
//             moe_matvec (experts prepared one after another), matmul, moe_matmul, dequant, restore. For a CPU as the target
//             layout "prepared" is another one, which matvec and moe_matvec of CPUs read: with prepare and restore
//             it has to be named then (null is that of GPUs, which a CPU makes and undoes, too), and
//             ktjit_prepared_bytes_for says how large y is
//   restore   y = the native blocks of prepared w, byte for byte but for codes that mean the same
typedef struct ktjit_kernel_desc {
  size_t struct_size;
  const char* op;      // one of the above
  const char* format;  // of w, any case, any alias: "q4_K", "fp8_e4m3", "float8_e4m3fn"
  int64_t cols;
  const char* scale_type;    // scales that lie beside w: "f32", "bf16", "e8m0", "e4m3"; null: none,
                             // or what the format demands (mxfp4, nvfp4)
  int64_t scale_block_rows;  // rows that share a scale; 0: all
  int64_t scale_block_cols;  // columns that share a scale; 0: all
  const char* activation;    // products: "a16", "a8", "afp8"; null: "a16"
  const char* x_format;      // products, quantize: "f32", "f16", "bf16", with afp8 "fp8_e4m3";
                             // null: "f32", with afp8 "fp8_e4m3"
  int64_t x_scale_group;     // afp8: columns of x that share an f32 scale
  const char* y_format;      // "f32", "f16", "bf16"; null: "f32"
  const char* bias_format;   // products: "f32", "f16", "bf16"; null: no bias
  int32_t x_columns;         // matvec: the most rows of x of a launch, 1, 2, 4 or 8; 0: 1
                             // matmul: about how many there will be, for speed only; 0: many
                             // moe_matmul: likewise, slots of an expert
  int32_t weights_finite;    // not 0: nan_scan found none, which allows shorter decodes
  int32_t non_saturating;    // quantize: values beyond the largest become NaN or infinity
  int32_t alignment;         // w, x and y lie at multiples of this, a power of two; 0: 16
  const char* target;        // "sm_86", "cpu:x86-64-v3"; null: what the device runs best
  int32_t dependent_launch;  // not 0: launches may start while the kernel ahead of them in the
                             // stream ends, and wait for it by themselves (programmatic dependent
                             // launch); sm_90 and up, driver of CUDA 11.8 and up
  int32_t reserved;          // 0
  int64_t rows;      // about how many rows w will have, for speed only: ktjit_kernel_load takes the
                     // knobs that were measured for this size (docs/TUNING.md); 0: not known
  const char* gate;  // matvec, moe_*: y = act(w x + bias) * (w_more[0] x + bias_more[0]), act
                     // "silu" or "gelu_tanh" (the approximation by tanh); null: no gate
  const char*
      residual_format;  // matvec: y[j, r] += residual[j, r]; "f32", "f16", "bf16"; null: none
  int32_t matrices;     // matvec: 2 to 4 matrices of one format that share x; 0: 1
  int32_t reserved2;    // 0
  const char*
      layout;  // of w: "native" (row-major blocks as in files) or "prepared"; null: native, but
               // restore's are prepared
  int32_t
      constant_weights;  // not 0, with dependent_launch, for prepared w and matvec of bf16, f16, e4m3 and e5m2:
  // no work that may still run when a launch starts writes w (nor, with moe_matvec, ids), so
  // it is read before the kernel ahead has ended
  int32_t
      tensor_core_precision;  // not 0: matmul as the tensor cores (from sm_80 on) or AMX (CPUs with amx-bf16) compute it
      // fastest. a16, bf16 x (f16 too, but on sm_90a and CPUs): each weight is rounded once to x's format (GPUs: prepared,
      // e4m3, e5m2 w, and w of x's format; CPUs: native w); afp8 on sm_90a, e4m3 w and groups of 128: sums of 128 columns
      // keep the 14 bits of FP8 tensor cores. moe_matmul on sm_90a too. SPEC elsewhere.
} ktjit_kernel_desc;
KTJIT_DEFINE_INIT_(ktjit_kernel_desc)

// Bytes of a prepared matrix: as many as the native blocks have, or a few more, rows padded to a multiple of 16 and
// columns of 256. Errors: KTJIT_ERROR_SPEC for formats without this layout, and rows or columns that no matrix has.
KTJIT_API ktjit_status ktjit_prepared_bytes(const char* format, int64_t rows, int64_t cols,
                                            uint64_t* bytes);

// The same of layout "prepared" for a target: "cpu", "cpu:x86-64-v3", "sm_86". Errors: also KTJIT_ERROR_SPEC for an
// unknown target.
KTJIT_API ktjit_status ktjit_prepared_bytes_for(const char* target, const char* format,
                                                int64_t rows, int64_t cols, uint64_t* bytes);

// A kernel as text only, compiled, or loaded on a device.
typedef struct ktjit_kernel ktjit_kernel;

// Text and lowering; needs no device and no compiler. `desc->target` must be given.
KTJIT_API ktjit_status ktjit_kernel_emit(ktjit_context* context, const ktjit_kernel_desc* desc,
                                         ktjit_kernel** kernel);
// Also finds it in the cache, or compiles it and keeps it there; needs no device, so that a machine
// without one can prepare a cache. `desc->target` must be given.
KTJIT_API ktjit_status ktjit_kernel_build(ktjit_context* context, const ktjit_kernel_desc* desc,
                                          ktjit_kernel** kernel);
// Also loads it, so that it can be launched. `stream` is the one that the caller works with (null:
// none, or the default stream): if it is being captured, the error is KTJIT_ERROR_CAPTURE, before
// anything is compiled. A capture that is not told of is found by the driver.
KTJIT_API ktjit_status ktjit_kernel_load(ktjit_device* device, const ktjit_kernel_desc* desc,
                                         void* stream, ktjit_kernel** kernel);
KTJIT_API void ktjit_kernel_destroy(ktjit_kernel* kernel);

// A load under way on a thread of ktjit's.
typedef struct ktjit_future ktjit_future;

// Starts what ktjit_kernel_load does, and returns. As many compile side by side as the context has
// threads and the machine memory for, the kernels that take longest first. Errors of the description are reported here, others by ktjit_future_get.
KTJIT_API ktjit_status ktjit_kernel_load_async(ktjit_device* device, const ktjit_kernel_desc* desc,
                                               ktjit_future** future);
// 1 if ktjit_future_get would not wait.
KTJIT_API int ktjit_future_is_ready(const ktjit_future* future);
// Waits, and gives the kernel or the error. Only once for a future.
KTJIT_API ktjit_status ktjit_future_get(ktjit_future* future, ktjit_kernel** kernel);
// Asks for the load to stop, and doesn't wait: a compile under way ends as soon as its compiler lets
// it, and ktjit_future_get then gives KTJIT_ERROR_INTERRUPTED. A load that is done stays so. A quick
// version that is there (below) stays, without a full one.
KTJIT_API ktjit_status ktjit_future_cancel(ktjit_future* future);
// Cancels a load that is still under way, and doesn't wait for it.
KTJIT_API void ktjit_future_destroy(ktjit_future* future);

// As ktjit_kernel_load_async, but sooner ready: where the cache lacks the kernel and a quick version, slower
// to run, compiles in half the time (matmul), the future is ready with that, and errors of it are
// the future's. The full version follows on a thread of ktjit's and takes its place in launches, for
// which nothing changes but their speed. It goes on until the kernel is destroyed (or the future, if
// it never gave a kernel), is cancelled by ktjit_future_cancel, or the last handle of the context
// ends. ktjit_kernel_get_info describes the version that launches take then.
//
// Capture: before a stream is captured, call ktjit_kernel_wait_full for all such kernels (after ktjit_future_cancel, to
// stay with the quick versions): a load by ktjit's thread breaks captures that are not in the relaxed or
// thread-local mode. A captured graph keeps the version that it captured.
KTJIT_API ktjit_status ktjit_kernel_load_quick_async(ktjit_device* device,
                                                     const ktjit_kernel_desc* desc,
                                                     ktjit_future** future);
// 1 if launches take the full version: from the beginning, but for kernels of the function above.
KTJIT_API int ktjit_kernel_is_full(const ktjit_kernel* kernel);
// Waits for that, or gives the error of the full version, which the quick one outlives:
// KTJIT_ERROR_INTERRUPTED if it was cancelled.
KTJIT_API ktjit_status ktjit_kernel_wait_full(const ktjit_kernel* kernel);

// All strings are those of the kernel. What is not known is null, or -1.
typedef struct ktjit_kernel_info {
  size_t struct_size;
  const char* name;           // of the kernel, and its symbol
  const char* target;         // "sm_86"
  const char* spec;           // one "field: value" a line
  const char* lowering;       // how the target decodes the format: "software, exact: ..."
  const char* source;         // CUDA text, or C++ for the CPU
  const char* compiler;       // "NVRTC 13.0"; null if it was only emitted
  const char* artifact_kind;  // "cubin", "shared object"; null if it was only emitted
  const void* artifact;       // what the compiler made
  size_t artifact_bytes;
  double compile_ms;   // time that the compiler took, also when it was found in the cache
  int32_t from_cache;  // 1: found, 0: compiled now, -1: only emitted
  int32_t is_loaded;
  int32_t registers;
  int32_t spill_bytes;
  int32_t stack_bytes;
  int32_t static_smem_bytes;
  const char*
      tuned;  // the measurement by which the knobs were chosen: "tuned: threads 256: 4120 GB/s
              // against 3900 by default"; null if they are the default's
} ktjit_kernel_info;
KTJIT_DEFINE_INIT_(ktjit_kernel_info)

// Fills the first info->struct_size bytes of `info`.
KTJIT_API ktjit_status ktjit_kernel_get_info(const ktjit_kernel* kernel, ktjit_kernel_info* info);

// Where a launch reads and writes. Fields that the kernel has no use for must be 0.
typedef struct ktjit_arguments {
  size_t struct_size;
  ktjit_address w;        // [rows, cols]; written by quantize; prepared w at a multiple of 16 bytes
  ktjit_address scale;    // row-major, [ceil(rows / block_rows), ceil(cols / block_cols)]; written
                          // by quantize, but for nvfp4's first 16 bytes: there the caller has put
                          // the tensor's f32 scale, positive, and zeros
  ktjit_address x;        // products [n, cols], quantize [rows, cols]
  ktjit_address x_scale;  // afp8: [n, ceil(cols / group)] f32
  ktjit_address bias;     // [rows]
  ktjit_address
      y;  // dequant [rows, cols], products [n, rows]; prepare: the prepared matrix, at a multiple of 16
          // bytes; restore: the native blocks
  ktjit_address found;     // nan_scan: one uint32_t, which the caller has set to 0
  ktjit_address ids;       // moe_*: int32 [n], the expert of each slot
  ktjit_address residual;  // [n, rows]; may be y if the formats are the same
  // Of the second to fourth matrix; with a gate w_more[0] and so on belong to the matrix that isn't activated.
  ktjit_address w_more[3];
  ktjit_address scale_more[3];
  ktjit_address bias_more[3];
  ktjit_address y_more[3];
} ktjit_arguments;
KTJIT_DEFINE_INIT_(ktjit_arguments)

// The bytes behind each address of a launch with these counts; 0 for fields that must be 0. `n` is
// read for products only.
KTJIT_API ktjit_status ktjit_kernel_argument_bytes(const ktjit_kernel* kernel, int64_t rows,
                                                   int64_t n, ktjit_arguments* bytes);
// Scratch memory that a launch needs. 0 for all kernels of this version.
KTJIT_API ktjit_status ktjit_kernel_workspace_bytes(const ktjit_kernel* kernel, int64_t rows,
                                                    int64_t n, size_t* bytes);

// Queues one launch on the caller's stream: allocates nothing, compiles nothing, waits for nothing
// (on the CPU it is done when it returns). `n`: rows of x, read for products only.
// Errors: KTJIT_ERROR_SPEC for an address that is missing, too many or not aligned, and for counts
//         that no launch serves; KTJIT_ERROR_DRIVER if the driver refuses.
KTJIT_API ktjit_status ktjit_kernel_launch(const ktjit_kernel* kernel, void* stream, int64_t rows,
                                           int64_t n, const ktjit_arguments* arguments);

// How much one launch does.
typedef struct ktjit_counts {
  size_t struct_size;
  int64_t rows;          // of w; of one expert's matrix with moe_*
  int64_t n;             // products: rows of x; moe_*: slots, the rows of y. 0: 1
  int64_t rows_more[3];  // of the second to fourth matrix; with a gate 0, since both have `rows`
  int64_t slots_per_x;  // moe_*: slots that share a row of x (8 where 8 experts get a token, 1
                        // where each slot has its own); 0 elsewhere
  int64_t experts;      // moe_*: of the stack; their scales lie one plane after another, each
                        // plane of nvfp4 at a multiple of 16 bytes. 0 elsewhere
} ktjit_counts;
KTJIT_DEFINE_INIT_(ktjit_counts)

// As ktjit_kernel_argument_bytes and ktjit_kernel_launch, for every kernel, those with experts or several
// matrices among them.
KTJIT_API ktjit_status ktjit_kernel_counts_argument_bytes(const ktjit_kernel* kernel,
                                                          const ktjit_counts* counts,
                                                          ktjit_arguments* bytes);
KTJIT_API ktjit_status ktjit_kernel_launch_counts(const ktjit_kernel* kernel, void* stream,
                                                  const ktjit_counts* counts,
                                                  const ktjit_arguments* arguments);

#undef KTJIT_DEFINE_INIT_

#ifdef __cplusplus
}
#endif
