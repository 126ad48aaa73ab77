// SPDX-License-Identifier: Apache-2.0

/*
 * The reaper: it hears workers after starts that failed, tells of deaths and of a launcher
 * that is gone, and is replaced when a second instance of the library takes over.
 */
#include "ep_nif_side.h"

using namespace nif;

namespace {

/* A call that the reaper has to deliver. */
void expect_heard(Context *context, Worker *worker)
{
    Process caller;
    Call call(&caller, context->lane());
    ASSERT_EQ("waiting", call.await(integer(1)).text());
    std::optional<Request> request = worker->find(1, EP_KIND_CALL);
    ASSERT_TRUE(request);
    worker->send(1, EP_KIND_RESULT, request->call_id, term::integer(7));
    worker->ring(1);
    ASSERT_EQ("{py_done,1}", caller.receive().text());
    EXPECT_EQ("{ok,7}", call.go_on("collect").text());
}

std::string start_host(Process *owner, const Launcher &launcher)
{
    Term path = binary("/");
    return owner
        ->call("host_start", {launcher.term(), integer(1), tuple({integer(0), integer(0)}), path,
                              path, path, binary(""), atom("none")})
        .text();
}

TEST(ReaperTest, HearsAWorkerAfterManyStartsThatFailed)
{
    Library library;
    {
        Launcher gone;
        gone.hang_up();
        ASSERT_EQ("gone", gone.owner().receive()[2].text());
        Process owner;
        for (int i = 0; i < 40; i++)
            EXPECT_EQ("{error,epipe}", start_host(&owner, gone));
        EXPECT_FALSE(owner.receive_now());
    }
    Launcher launcher;
    Worker worker(&launcher);
    Context context;
    ASSERT_EQ("ok", context.attach(&worker, 1));
    worker.start(1);
    expect_heard(&context, &worker);
}

TEST(ReaperTest, TellsTheOwnerOfAWorkerThatCouldNotBeForked)
{
    Library library;
    Launcher launcher;
    Process owner;
    Term path = binary("/");
    Term started =
        owner.call("host_start", {launcher.term(), integer(1), tuple({integer(0), integer(0)}),
                                  path, path, path, binary(""), atom("none")});
    int fds[EP_FDPASS_MAX];
    ep_control_request request = launcher.take(fds);
    for (int fd : fds)
        close(fd);
    launcher.send(EP_CONTROL_FAILED, request.worker_id, EAGAIN);
    Term message = owner.receive();
    ASSERT_TRUE(message);
    EXPECT_TRUE(message[2].is("exited")) << message.text();
}

TEST(ReaperTest, EndsWorkersThatWereNeverSpawnedWhenTheLauncherIsGone)
{
    Library library;
    Launcher launcher;
    Process owner;
    ASSERT_EQ(0u, start_host(&owner, launcher).find("{ok,"));
    launcher.hang_up();
    Term message = owner.receive();
    ASSERT_TRUE(message);
    EXPECT_TRUE(message[2].is("exited")) << message.text();
    EXPECT_EQ("gone", launcher.owner().receive()[2].text());
}

TEST(ReaperTest, EndsTheWorkerOfAnOwnerThatDied)
{
    Library library;
    Launcher launcher;
    Process owner;
    ASSERT_EQ(0u, start_host(&owner, launcher).find("{ok,"));
    owner.exit(); /* nobody is told, and nothing is left: the library checks that */
}

TEST(ReaperTest, IsReplacedByThatOfAnInstanceThatTakesOver)
{
    Library library;
    Launcher launcher;
    Worker worker(&launcher);
    Context context;
    ASSERT_EQ("ok", context.attach(&worker, 1));
    worker.start(1);
    expect_heard(&context, &worker);
    ASSERT_EQ(0, fake_upgrade());
    expect_heard(&context, &worker);
    EXPECT_EQ("SIGSEGV", worker.die(256 + SIGSEGV));
    /* The first instance goes; the second has the structures. */
    fake_unload_old();
}

TEST(ReaperTest, StaysWhenTheOneOfTheNextInstanceDoesNotStart)
{
    Library library;
    Launcher launcher;
    Worker worker(&launcher);
    Context context;
    ASSERT_EQ("ok", context.attach(&worker, 1));
    worker.start(1);
    fake_set_threads(FAKE_THREADS_FAIL);
    EXPECT_GT(0, fake_upgrade());
    fake_set_threads(FAKE_THREADS_RUN);
    expect_heard(&context, &worker);
}

TEST(ReaperTest, LeavesNothingWhenItDoesNotStart)
{
    fake_counts before = fake_living();
    fake_set_threads(FAKE_THREADS_FAIL);
    EXPECT_GT(0, fake_try_load());
    fake_set_threads(FAKE_THREADS_RUN);
    fake_counts after = fake_living();
    EXPECT_EQ(0, memcmp(&before, &after, sizeof(after)));
}

TEST(ReaperTest, TakesInquiriesAndQuestionsOfThreads)
{
    Library library;
    Launcher launcher;
    Worker worker(&launcher);
    Context context;
    Process asker, runner;
    ASSERT_EQ("ok", context.attach(&worker, 1));
    worker.start(1);
    ASSERT_EQ("ok", runner.call("run_callbacks", {}).text());
    ASSERT_EQ("ok",
              asker.call("inquire", {context.lane(), integer(3), atom("gc"), list({})}).text());
    std::optional<Request> request = worker.take(0);
    while (request && request->kind != EP_KIND_MAINTAIN)
        request = worker.take(0);
    ASSERT_TRUE(request);
    worker.send(0, EP_KIND_MAINTAINED, request->call_id, term::integer(5));
    worker.send(0, EP_KIND_CALLBACK, 11, term::integer(0) + term::binary("f") + term::list({}), 0,
                0, 1);
    worker.ring(0);
    EXPECT_EQ("{py_maintained,3,{ok,5}}", asker.receive().text());
    Term message = runner.receive();
    ASSERT_TRUE(message.is("py_callback"));
    EXPECT_EQ("{0,{<<\"f\">>,[]}}", runner.call("question", {message[1]}).text());
    EXPECT_EQ("ok",
              runner.call("answer", {message[1], integer(0), atom("value"), integer(1)}).text());
    request = worker.take(0);
    ASSERT_TRUE(request);
    EXPECT_EQ(EP_KIND_ANSWER, request->kind);
    EXPECT_EQ(11u, request->call_id);
}

/* The reaper is no scheduler, and the VM needs one to make it. */
TEST(ReaperTest, DoesNotMakeALargeMapOfWhatAnInquiryCameTo)
{
    Library library;
    Launcher launcher;
    Worker worker(&launcher);
    Context context;
    Process asker;
    ASSERT_EQ("ok", context.attach(&worker, 1));
    worker.start(1);
    ASSERT_EQ("ok",
              asker.call("inquire", {context.lane(), integer(3), atom("gc"), list({})}).text());
    std::optional<Request> request = worker.take(0);
    while (request && request->kind != EP_KIND_MAINTAIN)
        request = worker.take(0);
    ASSERT_TRUE(request);
    std::string pairs;
    for (int i = 0; i <= static_cast<int>(EP_SEND_KEYS_MAX); i++)
        pairs += term::integer(i) + term::integer(0);
    worker.send(0, EP_KIND_MAINTAINED, request->call_id,
                std::string{'\x74', 0, 0, 0, static_cast<char>(EP_SEND_KEYS_MAX + 1)} + pairs);
    worker.ring(0);
    EXPECT_EQ("{py_maintained,3,{error,unknown}}", asker.receive().text());
}

TEST(ReaperTest, AnswersAThreadWhoseCallbackNobodyRuns)
{
    Library library;
    Launcher launcher;
    Worker worker(&launcher);
    Context context;
    ASSERT_EQ("ok", context.attach(&worker, 1));
    worker.start(1);
    while (worker.take(0)) { /* LANE_OPEN */
    }
    auto runner = std::make_unique<Process>();
    runner->call("run_callbacks", {});
    worker.send(0, EP_KIND_CALLBACK, 11, term::integer(0) + term::binary("f") + term::list({}), 0,
                0, 1);
    worker.ring(0);
    {
        Term message = runner->receive();
        ASSERT_TRUE(message.is("py_callback"));
        runner->exit();
    }
    std::optional<Request> request = worker.take(0);
    ASSERT_TRUE(request);
    EXPECT_EQ(EP_KIND_ANSWER, request->kind);
    EXPECT_EQ(EP_ANSWER_RAISE, request->aux);
}

/* The worker chose a context that had ended before it heard of it. The thread may run a task of the
 * other one. */
TEST(ReaperTest, AnswersAThreadByAnotherContextOfItsInterpreter)
{
    Library library;
    Launcher launcher;
    Worker worker(&launcher, 2);
    Context ended, other;
    Process runner;
    ASSERT_EQ("ok", ended.attach(&worker, 1));
    ASSERT_EQ("ok", other.attach(&worker, 2));
    worker.start(1);
    worker.start(2);
    while (worker.take(0)) { /* LANE_OPEN */
    }
    ASSERT_EQ("ok", runner.call("run_callbacks", {}).text());
    ended.close();
    worker.send(0, EP_KIND_CALLBACK, 11, term::integer(0) + term::binary("f") + term::list({}), 0,
                1, 1);
    worker.ring(0);
    Term message = runner.receive();
    ASSERT_TRUE(message.is("py_callback"));
    EXPECT_EQ("ok",
              runner.call("answer", {message[1], integer(0), atom("value"), integer(1)}).text());
    std::optional<Request> request = worker.take(0);
    ASSERT_TRUE(request);
    EXPECT_EQ(EP_KIND_ANSWER, request->kind);
    EXPECT_EQ(EP_ANSWER_VALUE, request->aux);
}

} // namespace
