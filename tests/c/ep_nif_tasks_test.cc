// SPDX-License-Identifier: Apache-2.0

/*
 * Tasks as the NIF has them: how they are sent, how they end, and which replies are lies.
 */
#include "ep_nif_side.h"

using namespace nif;

namespace {

constexpr unsigned kTask = 0x1000;

/* A term as a worker writes it. */
std::string small(uint8_t n)
{
    return {'\x61', static_cast<char>(n)};
}

/* An error record: two names, and nil. */
std::string error_record()
{
    std::string name = {'\x6d', 0, 0, 0, 1, 'E'};
    return name + name + std::string({'\x77', 3, 'n', 'i', 'l'});
}

class TaskTest : public testing::Test {
protected:
    void start()
    {
        must(context_.attach(&worker_, 1) == "ok", "attach");
        worker_.start(1);
        worker_.ring_anyway();
        must(context_.owner().receive().text() == "{py_lane,started}", "started");
    }

    /* The message for the control thread. */
    Request taken(ep_kind kind)
    {
        for (int i = 0; i < 20000; i++) {
            while (std::optional<Request> request = worker_.take(0)) {
                if (request->kind == kind)
                    return *request;
            }
            usleep(1000);
        }
        must(false, "no such message on the control lane");
        return {};
    }

    void reply(ep_kind kind, uint64_t id, const std::string &payload, uint8_t aux = 0)
    {
        must(worker_.send(0, kind, id, payload, aux, 0, 1), "no room");
        worker_.ring_anyway();
    }

    std::string collected(Call &call)
    {
        must(caller_.receive().text() == "{py_done,t}", "no message");
        return call.go_on("collect").text();
    }

    bool is_caught()
    {
        for (int i = 0; i < 20000; i++) {
            if (library_.counter("violations") > 0)
                return true;
            usleep(1000);
        }
        return false;
    }

    Library library_;
    Launcher launcher_;
    Worker worker_{&launcher_};
    Context context_;
    Process caller_;
};

TEST_F(TaskTest, AreSentBesideTheRings)
{
    start();
    Call call(&caller_, context_.lane(), kTask);
    EXPECT_TRUE(call.result().is("pending"));
    EXPECT_EQ("PARKED", call.state());
    EXPECT_EQ(0u, library_.slots_in_use());
    Request task = taken(EP_KIND_TASK);
    EXPECT_EQ(1, task.aux);
    EXPECT_EQ(call.id(), task.call_id);
    EXPECT_EQ(static_cast<uint64_t>(EP_KIND_CALL), task.stamp);
    EXPECT_FALSE(worker_.take(1));
    EXPECT_EQ("waiting", call.await(atom("t")).text());
    reply(EP_KIND_RESULT, task.call_id, small(9));
    EXPECT_EQ("{ok,9}", collected(call));
    EXPECT_EQ(0u, library_.counter("violations"));
}

TEST_F(TaskTest, AreHandedOverBeforeTheyAreAwaited)
{
    start();
    Process helper;
    Call call(&caller_, context_.lane(), kTask);
    Request task = taken(EP_KIND_TASK);
    EXPECT_EQ("waiting", helper.call("await", {call.reference(), atom("t")}).text());
    reply(EP_KIND_RESULT, task.call_id, small(9));
    EXPECT_EQ("{py_done,t}", helper.receive().text());
    EXPECT_EQ("{ok,9}", helper.call("collect", {call.reference()}).text());
}

TEST_F(TaskTest, EndInErrorsOfTheirOwn)
{
    start();
    const std::pair<uint8_t, const char *> ends[] = {
        {EP_ERROR_CANCELLED, "{error,<<\"cancelled\">>}"},
        {EP_ERROR_NOT_FOUND, "{error,function_not_found}"},
        {EP_ERROR_INTERRUPTED, "{error,interrupted}"},
    };
    for (auto [aux, text] : ends) {
        Call call(&caller_, context_.lane(), kTask);
        Request task = taken(EP_KIND_TASK);
        (void)call.await(atom("t"));
        reply(EP_KIND_ERROR, task.call_id, error_record(), aux);
        EXPECT_EQ(text, collected(call));
    }
    Call call(&caller_, context_.lane(), kTask);
    Request task = taken(EP_KIND_TASK);
    (void)call.await(atom("t"));
    reply(EP_KIND_DROPPED, task.call_id, "");
    EXPECT_EQ("{error,cancelled}", collected(call));
    EXPECT_EQ(0u, library_.counter("violations"));
}

TEST_F(TaskTest, WaitForAWorkerThatHasStarted)
{
    EXPECT_EQ("again", Call(&caller_, context_.lane(), kTask).text());
    must(context_.attach(&worker_, 1) == "ok", "attach");
    EXPECT_EQ("again", Call(&caller_, context_.lane(), kTask).text());
    worker_.start(1);
    EXPECT_TRUE(Call(&caller_, context_.lane(), kTask).result().is("pending"));
}

TEST_F(TaskTest, AreRefusedByALaneThatHasEnded)
{
    start();
    context_.close("shutdown");
    EXPECT_EQ("{error,{context_died,shutdown}}", Call(&caller_, context_.lane(), kTask).text());
}

TEST_F(TaskTest, AreCancelledWhenTheyAreGivenUp)
{
    start();
    Call call(&caller_, context_.lane(), kTask);
    Request task = taken(EP_KIND_TASK);
    (void)call.await(atom("t"));
    EXPECT_EQ("cancelled", call.go_on("cancel").text());
    Request cancel = taken(EP_KIND_TASK_CANCEL);
    EXPECT_EQ(task.call_id, cancel.call_id);
    EXPECT_EQ(1, cancel.aux);
    /* Its context is told nothing: nobody is killed for a task. */
    EXPECT_FALSE(context_.owner().receive_now());
    /* The late answer is expected. */
    reply(EP_KIND_ERROR, task.call_id, error_record(), EP_ERROR_CANCELLED);
    Call next(&caller_, context_.lane(), kTask);
    Request other = taken(EP_KIND_TASK);
    (void)next.await(atom("t"));
    reply(EP_KIND_RESULT, other.call_id, small(1));
    EXPECT_EQ("{ok,1}", collected(next));
    EXPECT_EQ(0u, library_.counter("violations"));
}

TEST_F(TaskTest, AreCancelledWhenTheirTermIsCollected)
{
    start();
    Call call(&caller_, context_.lane(), kTask);
    Request task = taken(EP_KIND_TASK);
    call.drop();
    EXPECT_EQ(task.call_id, taken(EP_KIND_TASK_CANCEL).call_id);
}

TEST_F(TaskTest, EndWithTheirWorker)
{
    start();
    Call call(&caller_, context_.lane(), kTask);
    (void)taken(EP_KIND_TASK);
    (void)call.await(atom("t"));
    (void)worker_.die(256 + SIGKILL);
    EXPECT_NE(std::string::npos, collected(call).find("worker_died"));
}

/* What a worker had published before it died is delivered. */
TEST_F(TaskTest, KeepTheReplyOfADeadWorker)
{
    start();
    Call call(&caller_, context_.lane(), kTask);
    Request task = taken(EP_KIND_TASK);
    (void)call.await(atom("t"));
    must(worker_.send(0, EP_KIND_RESULT, task.call_id, small(3), 0, 0, 1), "no room");
    (void)worker_.die(256 + SIGKILL);
    EXPECT_EQ("{ok,3}", collected(call));
}

TEST_F(TaskTest, EndWithTheirContextAndMayBeAnsweredLate)
{
    start();
    Call call(&caller_, context_.lane(), kTask);
    Request task = taken(EP_KIND_TASK);
    (void)call.await(atom("t"));
    context_.close("shutdown");
    EXPECT_EQ("{error,{context_died,shutdown}}", collected(call));
    reply(EP_KIND_ERROR, task.call_id, error_record(), EP_ERROR_CANCELLED);
    worker_.send(1, EP_KIND_STOPPED, 0, "");
    worker_.ring_anyway();
    Context second;
    Worker other(&launcher_);
    must(second.attach(&other, 1) == "ok", "attach");
    EXPECT_EQ(0u, library_.counter("violations"));
    /* But once only. */
    reply(EP_KIND_RESULT, task.call_id, small(1));
    EXPECT_TRUE(is_caught());
}

TEST_F(TaskTest, ASecondReplyIsALie)
{
    start();
    Call call(&caller_, context_.lane(), kTask);
    Request task = taken(EP_KIND_TASK);
    (void)call.await(atom("t"));
    reply(EP_KIND_RESULT, task.call_id, small(1));
    EXPECT_EQ("{ok,1}", collected(call));
    reply(EP_KIND_RESULT, task.call_id, small(2));
    EXPECT_TRUE(is_caught());
}

TEST_F(TaskTest, AReplyOnTheLaneIsALie)
{
    start();
    Call call(&caller_, context_.lane(), kTask);
    Request task = taken(EP_KIND_TASK);
    must(worker_.send(1, EP_KIND_RESULT, task.call_id, small(1)), "no room");
    worker_.ring_anyway();
    EXPECT_TRUE(is_caught());
}

TEST_F(TaskTest, AQuestionOfATaskIsALie)
{
    start();
    Call call(&caller_, context_.lane(), kTask);
    Request task = taken(EP_KIND_TASK);
    must(worker_.send(1, EP_KIND_CALLBACK, task.call_id, small(0), 0, 1), "no room");
    worker_.ring_anyway();
    EXPECT_TRUE(is_caught());
}

TEST_F(TaskTest, AnUnknownErrorIsALie)
{
    start();
    Call call(&caller_, context_.lane(), kTask);
    Request task = taken(EP_KIND_TASK);
    reply(EP_KIND_ERROR, task.call_id, error_record(), EP_ERROR_MAX + 1);
    EXPECT_TRUE(is_caught());
}

/* A worker that takes nothing, and callers that have no patience. */
TEST_F(TaskTest, WaitInMemoryForRoom)
{
    start();
    constexpr unsigned kTasks = 1000;
    std::vector<std::unique_ptr<Call>> calls;
    for (unsigned i = 0; i < kTasks; i++)
        calls.push_back(std::make_unique<Call>(&caller_, context_.lane(), kTask));
    for (auto &call : calls) {
        EXPECT_TRUE(call->result().is("pending"));
        (void)call->await(atom("t"));
        EXPECT_EQ("cancelled", call->go_on("cancel").text());
    }
    std::vector<uint64_t> tasks, cancels;
    while (cancels.size() < kTasks) {
        std::optional<Request> request = worker_.take(0);
        if (!request)
            worker_.ring_anyway(); /* the reaper sees that there is room */
        else if (request->kind == EP_KIND_TASK)
            tasks.push_back(request->call_id);
        else if (request->kind == EP_KIND_TASK_CANCEL)
            cancels.push_back(request->call_id);
    }
    EXPECT_EQ(tasks, cancels);
    EXPECT_EQ(0u, library_.counter("violations"));
}

TEST_F(TaskTest, AreBounded)
{
    start();
    std::vector<std::unique_ptr<Call>> calls;
    for (unsigned i = 0; i < EP_TASKS_MAX; i++)
        calls.push_back(std::make_unique<Call>(&caller_, context_.lane(), kTask));
    EXPECT_TRUE(calls.back()->result().is("pending"));
    EXPECT_EQ("{error,{overloaded,32768,32768}}", Call(&caller_, context_.lane(), kTask).text());
    Request task = taken(EP_KIND_TASK);
    reply(EP_KIND_DROPPED, task.call_id, "");
    Term again;
    do {
        again = Call(&caller_, context_.lane(), kTask).result();
    } while (!again.is("pending"));
    EXPECT_EQ(0u, library_.counter("violations"));
}

} // namespace
