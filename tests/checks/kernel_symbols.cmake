# Two kernel units with different flags must not share a symbol, or the linker could keep the one this CPU cannot run:
# every shareable (weak) definition in them must be in a namespace named after the instruction set.
#   cmake -D NM=<nm> -D LIBRARY=<libocellus_split.a> -P kernel_symbols.cmake
execute_process(COMMAND ${NM} -A -C --defined-only ${LIBRARY} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]*kernels_[^\n:]*:[^\n]* [WVuBDT] [^\n]*" symbols "${symbols}")
set(shared ${symbols})
list(FILTER shared EXCLUDE REGEX "isa_|ocellus::kernels::table_|DW\\.ref\\.")
list(LENGTH symbols count)
if(shared OR count EQUAL 0)
  list(JOIN shared "\n" text)
  message(FATAL_ERROR "${count} symbols in the kernel units; shared between instruction sets:\n${text}")
endif()
message(STATUS "${count} symbols, none shared")
