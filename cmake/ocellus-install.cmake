# Install and export. Pictures, weights and data under examples/ keep their own terms and are never installed.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/ocellus)
install(DIRECTORY include/ocellus DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
install(TARGETS ocellus ocellus_split EXPORT ocellusTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET ocellus_voc)
  install(TARGETS ocellus_voc EXPORT ocellusTargets)
endif()
install(EXPORT ocellusTargets NAMESPACE ocellus:: DESTINATION ${package_dir})

configure_package_config_file(cmake/ocellusConfig.cmake.in ocellusConfig.cmake INSTALL_DESTINATION ${package_dir}
                              NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(ocellusConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/ocellusConfig.cmake ${PROJECT_BINARY_DIR}/ocellusConfigVersion.cmake cmake/ocellus-deps.cmake
        DESTINATION ${package_dir})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/licenses/ocellus)

# pkg-config: the header-only file names the dependencies' directories unless the compiler searches them anyway or they were fetched
# into the build folder, which does not outlive the installation.
set(pc_flags "")
foreach(name IN ITEMS XSIMD JSON STB)
  set(directory "${OCELLUS_${name}_INCLUDE_DIR}")
  if(directory AND NOT directory IN_LIST CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES)
    string(APPEND pc_flags " -isystem ${directory}")
  endif()
endforeach()
# The prefix is written relative to the file, so an installed tree can be moved.
cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX BASE_DIRECTORY ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig OUTPUT_VARIABLE pc_prefix)
foreach(file IN ITEMS ocellus ocellus-split)
  configure_file(cmake/${file}.pc.in ${file}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${file}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
