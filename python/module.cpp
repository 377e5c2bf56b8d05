// The extension module of the Python package: the C interface as three classes. Addresses and
// streams are plain integers here; what they belong to is the package's business (python/ktjit).
#include <cstdint>
#include <memory>
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <optional>
#include <string>
#include <vector>

#include "capi/ktjit.h"

namespace nb = nanobind;

namespace {

/// A call of the C interface that failed.
struct Failure {
  ktjit_status status;
  std::string message;
};

void check(ktjit_status status) {
  if (status != KTJIT_OK) throw Failure{status, ktjit_last_error()};
}

/// Raises the class that ktjit._errors has for the status.
void raise_python_error(const std::exception_ptr& error, void*) {
  try {
    std::rethrow_exception(error);
  } catch (const Failure& failure) {
    const nb::object type =
        nb::module_::import_("ktjit._errors").attr("class_of")(static_cast<int>(failure.status));
    PyErr_SetString(type.ptr(), failure.message.c_str());
  }
}

template <auto Destroy>
struct Destroyer {
  template <class Handle>
  void operator()(Handle* handle) const noexcept {
    Destroy(handle);
  }
};

const char* c_str(const std::optional<std::string>& text) { return text ? text->c_str() : nullptr; }

void* stream_of(std::uint64_t stream) {
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(stream));
}

class Context {
 public:
  Context(const std::optional<std::string>& cache_dir, bool cache, int threads,
          const std::optional<std::string>& nvrtc, const std::optional<std::string>& worker,
          const std::optional<std::string>& cache_path,
          const std::optional<std::string>& cache_shared, std::uint64_t cache_max_bytes,
          bool sealed, bool tuning) {
    ktjit_options options = ktjit_options_init();
    options.cache_dir = c_str(cache_dir);
    options.cache_path = c_str(cache_path);
    options.cache_shared = c_str(cache_shared);
    options.cache_max_bytes = cache_max_bytes;
    options.sealed = sealed ? 1 : 0;
    options.tuning_off = tuning ? 0 : 1;
    options.cache_off = cache ? 0 : 1;
    options.threads = threads;
    options.nvrtc = c_str(nvrtc);
    options.worker = c_str(worker);
    ktjit_context* context = nullptr;
    check(ktjit_context_create(&options, &context));
    handle_.reset(context);
  }

  ktjit_context* get() const { return handle_.get(); }

 private:
  std::unique_ptr<ktjit_context, Destroyer<ktjit_context_destroy>> handle_;
};

/// What a kernel does, as Python keywords.
struct Description {
  std::string op;
  std::string format;
  std::int64_t cols;
  std::optional<std::string> scale_type;
  std::int64_t scale_block_rows;
  std::int64_t scale_block_cols;
  std::optional<std::string> activation;
  std::optional<std::string> x_format;
  std::int64_t x_scale_group;
  std::optional<std::string> y_format;
  std::optional<std::string> bias_format;
  int x_columns;
  bool weights_finite;
  bool saturate;
  int alignment;
  std::optional<std::string> target;
  bool dependent_launch;
  std::int64_t rows;
  std::optional<std::string> gate;
  std::optional<std::string> residual_format;
  int matrices;
  std::optional<std::string> layout;
  bool constant_weights;
  bool tensor_core_precision;

  /// Points into this.
  ktjit_kernel_desc to_c() const {
    ktjit_kernel_desc desc = ktjit_kernel_desc_init();
    desc.op = op.c_str();
    desc.format = format.c_str();
    desc.cols = cols;
    desc.scale_type = c_str(scale_type);
    desc.scale_block_rows = scale_block_rows;
    desc.scale_block_cols = scale_block_cols;
    desc.activation = c_str(activation);
    desc.x_format = c_str(x_format);
    desc.x_scale_group = x_scale_group;
    desc.y_format = c_str(y_format);
    desc.bias_format = c_str(bias_format);
    desc.x_columns = x_columns;
    desc.weights_finite = weights_finite ? 1 : 0;
    desc.non_saturating = saturate ? 0 : 1;
    desc.alignment = alignment;
    desc.target = c_str(target);
    desc.dependent_launch = dependent_launch ? 1 : 0;
    desc.rows = rows;
    desc.gate = c_str(gate);
    desc.residual_format = c_str(residual_format);
    desc.matrices = matrices;
    desc.layout = c_str(layout);
    desc.constant_weights = constant_weights ? 1 : 0;
    desc.tensor_core_precision = tensor_core_precision ? 1 : 0;
    return desc;
  }
};

class Kernel {
 public:
  explicit Kernel(ktjit_kernel* kernel) : handle_(kernel, Destroyer<ktjit_kernel_destroy>()) {}

  const std::shared_ptr<ktjit_kernel>& handle() const { return handle_; }

  void launch(std::int64_t rows, std::int64_t n, std::uint64_t stream, std::uint64_t w,
              std::uint64_t scale, std::uint64_t x, std::uint64_t x_scale, std::uint64_t bias,
              std::uint64_t y, std::uint64_t found) const {
    const ktjit_arguments arguments = to_arguments(w, scale, x, x_scale, bias, y, found);
    const nb::gil_scoped_release others_run;  // the driver waits where its queue is full
    check(ktjit_kernel_launch(handle_.get(), stream_of(stream), rows, n, &arguments));
  }

  static ktjit_arguments to_arguments(std::uint64_t w, std::uint64_t scale, std::uint64_t x,
                                      std::uint64_t x_scale, std::uint64_t bias, std::uint64_t y,
                                      std::uint64_t found) {
    ktjit_arguments arguments = ktjit_arguments_init();
    arguments.w = w;
    arguments.scale = scale;
    arguments.x = x;
    arguments.x_scale = x_scale;
    arguments.bias = bias;
    arguments.y = y;
    arguments.found = found;
    return arguments;
  }

  /// A launch of moe_matvec or with a gate; no gate: w_up and scale_up are 0.
  void launch_counts(std::int64_t rows, std::int64_t n, std::int64_t slots_per_x,
                     std::int64_t experts, std::uint64_t stream, std::uint64_t w,
                     std::uint64_t scale, std::uint64_t w_up, std::uint64_t scale_up,
                     std::uint64_t ids, std::uint64_t x, std::uint64_t y) const {
    const ktjit_counts counts = to_counts(rows, n, slots_per_x, experts);
    ktjit_arguments arguments = to_arguments(w, scale, x, 0, 0, y, 0);
    arguments.w_more[0] = w_up;
    arguments.scale_more[0] = scale_up;
    arguments.ids = ids;
    const nb::gil_scoped_release others_run;
    check(ktjit_kernel_launch_counts(handle_.get(), stream_of(stream), &counts, &arguments));
  }

  nb::dict counts_argument_bytes(std::int64_t rows, std::int64_t n, std::int64_t slots_per_x,
                                 std::int64_t experts) const {
    const ktjit_counts counts = to_counts(rows, n, slots_per_x, experts);
    ktjit_arguments bytes = ktjit_arguments_init();
    check(ktjit_kernel_counts_argument_bytes(handle_.get(), &counts, &bytes));
    nb::dict result;
    result["w"] = bytes.w;
    result["scale"] = bytes.scale;
    result["w_up"] = bytes.w_more[0];
    result["scale_up"] = bytes.scale_more[0];
    result["ids"] = bytes.ids;
    result["x"] = bytes.x;
    result["y"] = bytes.y;
    return result;
  }

  static ktjit_counts to_counts(std::int64_t rows, std::int64_t n, std::int64_t slots_per_x,
                                std::int64_t experts) {
    ktjit_counts counts = ktjit_counts_init();
    counts.rows = rows;
    counts.n = n;
    counts.slots_per_x = slots_per_x;
    counts.experts = experts;
    return counts;
  }

  nb::dict argument_bytes(std::int64_t rows, std::int64_t n) const {
    ktjit_arguments bytes = ktjit_arguments_init();
    check(ktjit_kernel_argument_bytes(handle_.get(), rows, n, &bytes));
    nb::dict result;
    result["w"] = bytes.w;
    result["scale"] = bytes.scale;
    result["x"] = bytes.x;
    result["x_scale"] = bytes.x_scale;
    result["bias"] = bytes.bias;
    result["y"] = bytes.y;
    result["found"] = bytes.found;
    return result;
  }

  nb::dict info() const {
    ktjit_kernel_info info = ktjit_kernel_info_init();
    check(ktjit_kernel_get_info(handle_.get(), &info));
    const auto known = [](int value) { return value < 0 ? nb::none() : nb::cast(value); };
    const auto text = [](const char* value) {
      return value == nullptr ? nb::none() : nb::cast(value);
    };
    nb::dict result;
    result["name"] = info.name;
    result["target"] = info.target;
    result["spec"] = info.spec;
    result["lowering"] = info.lowering;
    result["source"] = info.source;
    result["compiler"] = text(info.compiler);
    result["artifact_kind"] = text(info.artifact_kind);
    result["artifact"] = info.artifact == nullptr
                             ? nb::none()
                             : nb::object(nb::bytes(info.artifact, info.artifact_bytes));
    result["compile_ms"] = info.compile_ms < 0 ? nb::none() : nb::cast(info.compile_ms);
    result["from_cache"] = info.from_cache < 0 ? nb::none() : nb::cast(info.from_cache != 0);
    result["is_loaded"] = info.is_loaded != 0;
    result["registers"] = known(info.registers);
    result["spill_bytes"] = known(info.spill_bytes);
    result["stack_bytes"] = known(info.stack_bytes);
    result["static_smem_bytes"] = known(info.static_smem_bytes);
    return result;
  }

 private:
  std::shared_ptr<ktjit_kernel> handle_;
};

/// Launches with all their arguments, to be queued again and again with one call from Python.
class Prepared {
 public:
  /// `result` is what a call returns, `arrays` what the addresses are of: both are kept. `get_stream`
  /// gives the stream of a call for `device_index`; null: the default stream, or the CPU.
  Prepared(nb::object result, nb::object arrays, nb::object get_stream, nb::object device_index)
      : result_(std::move(result)),
        arrays_(std::move(arrays)),
        get_stream_(std::move(get_stream)),
        device_index_(std::move(device_index)) {}

  void add(const Kernel& kernel, std::int64_t rows, std::int64_t n, std::uint64_t w,
           std::uint64_t scale, std::uint64_t x, std::uint64_t x_scale, std::uint64_t bias,
           std::uint64_t y, std::uint64_t found) {
    launches_.push_back(
        {kernel.handle(), rows, n, Kernel::to_arguments(w, scale, x, x_scale, bias, y, found)});
  }

  nb::object call() const {
    void* stream = nullptr;
    if (!get_stream_.is_none())
      stream = stream_of(nb::cast<std::uint64_t>(get_stream_(device_index_)));
    {
      const nb::gil_scoped_release others_run;
      for (const Launch& launch : launches_) {
        check(ktjit_kernel_launch(launch.kernel.get(), stream, launch.rows, launch.n,
                                  &launch.arguments));
      }
    }
    return result_;
  }

  nb::object result() const { return result_; }

 private:
  struct Launch {
    std::shared_ptr<ktjit_kernel> kernel;
    std::int64_t rows;
    std::int64_t n;
    ktjit_arguments arguments;
  };

  nb::object result_;
  nb::object arrays_;
  nb::object get_stream_;
  nb::object device_index_;
  std::vector<Launch> launches_;
};

/// Memory of a device, for arrays that lie elsewhere.
class Memory {
 public:
  Memory(std::shared_ptr<ktjit_device> device, std::size_t bytes)
      : device_(std::move(device)), bytes_(bytes) {
    check(ktjit_allocate(device_.get(), bytes, &address_));
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { ktjit_free(device_.get(), address_); }

  std::uint64_t address() const { return address_; }
  std::size_t bytes() const { return bytes_; }

  /// `bytes` from an address of this process; waits until they are there.
  void upload(std::uint64_t from, std::size_t bytes) const {
    const nb::gil_scoped_release others_run;
    check(ktjit_upload(device_.get(), nullptr, stream_of(from), address_, bytes));
    check(ktjit_synchronize(device_.get(), nullptr));
  }

  /// Until what is queued on the default stream has ended.
  void wait() const {
    const nb::gil_scoped_release others_run;
    check(ktjit_synchronize(device_.get(), nullptr));
  }

  /// `bytes` to an address of this process, after what is queued on the default stream.
  void download(std::uint64_t to, std::size_t bytes) const {
    const nb::gil_scoped_release others_run;
    check(ktjit_download(device_.get(), nullptr, address_, stream_of(to), bytes));
    check(ktjit_synchronize(device_.get(), nullptr));
  }

 private:
  std::shared_ptr<ktjit_device> device_;
  std::size_t bytes_;
  ktjit_address address_ = 0;
};

class Device {
 public:
  Device(const Context& context, const std::string& name) {
    ktjit_device* device = nullptr;
    check(ktjit_device_open(context.get(), name.c_str(), &device));
    handle_ = std::shared_ptr<ktjit_device>(device, Destroyer<ktjit_device_destroy>());
  }

  std::unique_ptr<Memory> allocate(std::size_t bytes) const {
    return std::make_unique<Memory>(handle_, bytes);
  }

  std::string name() const { return ktjit_device_name(handle_.get()); }
  std::string description() const { return ktjit_device_description(handle_.get()); }
  std::string target() const { return ktjit_device_target(handle_.get()); }

  Kernel load(const Description& description, std::uint64_t stream) const {
    const ktjit_kernel_desc desc = description.to_c();
    ktjit_kernel* kernel = nullptr;
    const nb::gil_scoped_release others_run;
    check(ktjit_kernel_load(handle_.get(), &desc, stream_of(stream), &kernel));
    return Kernel(kernel);
  }

 private:
  std::shared_ptr<ktjit_device> handle_;
};

template <auto Make>
Kernel make_kernel(const Context& context, const Description& description) {
  const ktjit_kernel_desc desc = description.to_c();
  ktjit_kernel* kernel = nullptr;
  const nb::gil_scoped_release others_run;
  check(Make(context.get(), &desc, &kernel));
  return Kernel(kernel);
}

}  // namespace

NB_MODULE(_ktjit, module) {
  nb::register_exception_translator(raise_python_error);
  module.attr("version") = ktjit_version();
  module.attr("abi_version") = ktjit_abi_version();

  nb::class_<Context>(module, "Context")
      .def(nb::init<const std::optional<std::string>&, bool, int, const std::optional<std::string>&,
                    const std::optional<std::string>&, const std::optional<std::string>&,
                    const std::optional<std::string>&, std::uint64_t, bool, bool>(),
           nb::kw_only(), nb::arg("cache_dir") = nb::none(), nb::arg("cache") = true,
           nb::arg("threads") = 0, nb::arg("nvrtc") = nb::none(), nb::arg("worker") = nb::none(),
           nb::arg("cache_path") = nb::none(), nb::arg("cache_shared") = nb::none(),
           nb::arg("cache_max_bytes") = 0, nb::arg("sealed") = false, nb::arg("tuning") = true);

  nb::class_<Description>(module, "Description")
      .def(
          "__init__",
          [](Description* self, std::string op, std::string format, std::int64_t cols,
             std::optional<std::string> scale_type, std::int64_t scale_block_rows,
             std::int64_t scale_block_cols, std::optional<std::string> activation,
             std::optional<std::string> x_format, std::int64_t x_scale_group,
             std::optional<std::string> y_format, std::optional<std::string> bias_format,
             int x_columns, bool weights_finite, bool saturate, int alignment,
             std::optional<std::string> target, bool dependent_launch, std::int64_t rows,
             std::optional<std::string> gate, std::optional<std::string> residual_format,
             int matrices, std::optional<std::string> layout, bool constant_weights,
             bool tensor_core_precision) {
            new (self) Description{std::move(op),
                                   std::move(format),
                                   cols,
                                   std::move(scale_type),
                                   scale_block_rows,
                                   scale_block_cols,
                                   std::move(activation),
                                   std::move(x_format),
                                   x_scale_group,
                                   std::move(y_format),
                                   std::move(bias_format),
                                   x_columns,
                                   weights_finite,
                                   saturate,
                                   alignment,
                                   std::move(target),
                                   dependent_launch,
                                   rows,
                                   std::move(gate),
                                   std::move(residual_format),
                                   matrices,
                                   std::move(layout),
                                   constant_weights,
                                   tensor_core_precision};
          },
          nb::arg("op"), nb::arg("format"), nb::arg("cols"), nb::kw_only(),
          nb::arg("scale_type") = nb::none(), nb::arg("scale_block_rows") = 0,
          nb::arg("scale_block_cols") = 0, nb::arg("activation") = nb::none(),
          nb::arg("x_format") = nb::none(), nb::arg("x_scale_group") = 0,
          nb::arg("y_format") = nb::none(), nb::arg("bias_format") = nb::none(),
          nb::arg("x_columns") = 0, nb::arg("weights_finite") = false, nb::arg("saturate") = true,
          nb::arg("alignment") = 0, nb::arg("target") = nb::none(),
          nb::arg("dependent_launch") = false, nb::arg("rows") = 0, nb::arg("gate") = nb::none(),
          nb::arg("residual_format") = nb::none(), nb::arg("matrices") = 0,
          nb::arg("layout") = nb::none(), nb::arg("constant_weights") = false,
          nb::arg("tensor_core_precision") = false);

  nb::class_<Kernel>(module, "Kernel")
      .def("launch", &Kernel::launch, nb::arg("rows"), nb::arg("n") = 1, nb::kw_only(),
           nb::arg("stream") = 0, nb::arg("w") = 0, nb::arg("scale") = 0, nb::arg("x") = 0,
           nb::arg("x_scale") = 0, nb::arg("bias") = 0, nb::arg("y") = 0, nb::arg("found") = 0)
      // The same by position, all ten given: calls without names or defaults cost half.
      .def("queue", &Kernel::launch)
      .def("argument_bytes", &Kernel::argument_bytes, nb::arg("rows"), nb::arg("n") = 1)
      .def("launch_counts", &Kernel::launch_counts, nb::arg("rows"), nb::arg("n"),
           nb::arg("slots_per_x"), nb::arg("experts"), nb::arg("stream"), nb::kw_only(),
           nb::arg("w") = 0, nb::arg("scale") = 0, nb::arg("w_up") = 0, nb::arg("scale_up") = 0,
           nb::arg("ids") = 0, nb::arg("x") = 0, nb::arg("y") = 0)
      .def("counts_argument_bytes", &Kernel::counts_argument_bytes, nb::arg("rows"), nb::arg("n"),
           nb::arg("slots_per_x"), nb::arg("experts"))
      .def("info", &Kernel::info);

  nb::class_<Prepared>(module, "Prepared")
      .def(nb::init<nb::object, nb::object, nb::object, nb::object>(), nb::arg("result").none(),
           nb::arg("arrays").none(), nb::arg("get_stream").none(), nb::arg("device_index").none())
      .def("add", &Prepared::add)
      .def("__call__", &Prepared::call)
      .def_prop_ro("result", &Prepared::result);

  nb::class_<Device>(module, "Device")
      .def(nb::init<const Context&, const std::string&>(), nb::arg("context"), nb::arg("name"))
      .def_prop_ro("name", &Device::name)
      .def_prop_ro("description", &Device::description)
      .def_prop_ro("target", &Device::target)
      .def("allocate", &Device::allocate, nb::arg("bytes"))
      .def("load", &Device::load, nb::arg("description"), nb::arg("stream") = 0);

  nb::class_<Memory>(module, "Memory")
      .def_prop_ro("address", &Memory::address)
      .def_prop_ro("bytes", &Memory::bytes)
      .def("upload", &Memory::upload, nb::arg("address"), nb::arg("bytes"))
      .def("wait", &Memory::wait)
      .def("download", &Memory::download, nb::arg("address"), nb::arg("bytes"));

  module.def(
      "prepared_bytes",
      [](const std::string& format, std::int64_t rows, std::int64_t cols) {
        std::uint64_t bytes = 0;
        check(ktjit_prepared_bytes(format.c_str(), rows, cols, &bytes));
        return bytes;
      },
      nb::arg("format"), nb::arg("rows"), nb::arg("cols"));
  module.def(
      "prepared_bytes_for",
      [](const std::string& target, const std::string& format, std::int64_t rows,
         std::int64_t cols) {
        std::uint64_t bytes = 0;
        check(ktjit_prepared_bytes_for(target.c_str(), format.c_str(), rows, cols, &bytes));
        return bytes;
      },
      nb::arg("target"), nb::arg("format"), nb::arg("rows"), nb::arg("cols"));
  module.def("emit", &make_kernel<ktjit_kernel_emit>, nb::arg("context"), nb::arg("description"));
  module.def("build", &make_kernel<ktjit_kernel_build>, nb::arg("context"), nb::arg("description"));
}
