/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_FIXTURE_H
#define EP_WORKER_FIXTURE_H

/*
 * ep_worker_fixture - a real ep_worker with one context, the test in the place of
 * the VM. The program comes from the build: EP_WORKER_PATH, also in the environment;
 * EP_TEST_PYTHON in the environment names another executable for sys.executable.
 */

#include "ep_vm_side.h"

#include <cstdlib>
#include <filesystem>
#include <memory>

class WorkerTest : public ::testing::Test {
protected:
    void SetUp() override
    {
        start_worker(3, 20000);
    }

    void start_worker(uint32_t lanes, uint32_t spin_ns)
    {
        const char *program = getenv("EP_WORKER_PATH");
        const char *python = getenv("EP_TEST_PYTHON");
#ifdef EP_WORKER_PATH
        if (program == nullptr)
            program = EP_WORKER_PATH;
#endif
        ASSERT_NE(nullptr, program) << "EP_WORKER_PATH is not set";
        std::string modules = std::filesystem::path(program).parent_path() / "python";
        vm_ = std::make_unique<VmSide>(lanes, spin_ns);
        ASSERT_NO_FATAL_FAILURE(vm_->spawn(program, python == nullptr ? "" : python, modules));
        hello_ = vm_->receive(0);
        ASSERT_EQ(EP_KIND_HELLO, hello_.kind);
        ASSERT_NO_FATAL_FAILURE(start(1));
    }

    void start(uint32_t lane, ep_mode mode = EP_MODE_WORKER)
    {
        Reply started = vm_->start(lane, mode);
        ASSERT_EQ(EP_KIND_STARTED, started.kind);
        ASSERT_EQ(0u, started.aux) << started.text();
    }

    /* Starts a call that runs until it is interrupted; returns when it runs. */
    void start_endless(const std::string &code, uint64_t call_id, uint32_t lane = 1)
    {
        uint64_t before = vm_->taken(lane);
        vm_->send(lane, EP_KIND_EXEC, term::binary(code), call_id);
        /* Started is what call_head says; there is nothing to sleep on. */
        while (vm_->taken(lane) == before && vm_->is_alive())
            sched_yield();
    }

    bool has_owngil()
    {
        return hello_.text().find("true") != std::string::npos
               && vm_->eval("__import__('sys').version_info >= (3, 12)") == "true";
    }

    std::unique_ptr<VmSide> vm_;
    Reply hello_;
};

#endif
