/* SPDX-License-Identifier: Apache-2.0 */

#include "ep_worker_fixture.h"

using namespace term;

namespace {

TEST_F(WorkerTest, SaysHelloWithItsPidAndVersion)
{
    std::string text = hello_.text();
    EXPECT_EQ(0u, text.find(std::to_string(vm_->pid()) + " \"3.")) << text;
    EXPECT_EQ("\"3\"", vm_->eval("__import__('sys').version[:1]"));
}

TEST_F(WorkerTest, CallsAFunction)
{
    EXPECT_EQ("4f", vm_->call("math", "sqrt", {integer(16)}));
    EXPECT_EQ("\"a/b\"", vm_->call("os.path", "join", {binary("a"), binary("b")}));
    EXPECT_EQ("45",
              vm_->call("math", "gcd",
                        {integer(45), integer(90), integer(135), integer(180), integer(225),
                         integer(270), integer(315), integer(360), integer(405), integer(450)}));
}

TEST_F(WorkerTest, PassesKeywordArguments)
{
    std::string payload = VmSide::call_payload("builtins", "dict", {})
                          + map({{binary("a"), integer(1)}, {atom("b"), list({integer(2)})}});
    EXPECT_EQ("#{\"a\"=>1,\"b\"=>[2]}",
              VmSide::shown(vm_->ask(1, EP_KIND_CALL, payload, EP_FLAG_KWARGS)));
    payload = VmSide::call_payload("builtins", "int", {binary("ff")})
              + map({{binary("base"), integer(16)}});
    EXPECT_EQ("255", VmSide::shown(vm_->ask(1, EP_KIND_CALL, payload, EP_FLAG_KWARGS)));
    payload = VmSide::call_payload("builtins", "dict", {})
              + map({{binary("a"), integer(1)}, {atom("a"), integer(2)}});
    EXPECT_EQ("error: \"ValueError\" \"kwargs: two keys of the map become the same key: 'a'\" nil",
              VmSide::shown(vm_->ask(1, EP_KIND_CALL, payload, EP_FLAG_KWARGS)));
}

TEST_F(WorkerTest, EvaluatesWithLocals)
{
    EXPECT_EQ("2", vm_->eval(" \t1 + 1"));
    EXPECT_EQ("30",
              vm_->eval("x * y", map({{binary("x"), integer(5)}, {binary("y"), integer(6)}})));
    EXPECT_EQ("error: \"NameError\" \"name 'x' is not defined\" nil", vm_->eval("x"));
    EXPECT_EQ("error: \"SyntaxError\" \"invalid syntax (<eval>, line 1)\" nil", vm_->eval("1 +"));
    /* A second time from the cache. */
    EXPECT_EQ("2", vm_->eval(" \t1 + 1"));
}

TEST_F(WorkerTest, KeepsNamespacesApart)
{
    EXPECT_EQ("", vm_->exec("shared = 1"));
    EXPECT_EQ("", vm_->exec("x = shared + 1", 1, 77));
    EXPECT_EQ("2", vm_->eval("x", map({}), 1, 77));
    EXPECT_EQ("error: \"NameError\" \"name 'x' is not defined\" nil", vm_->eval("x"));
    EXPECT_EQ("1", vm_->eval("shared", map({}), 1, 78));
    EXPECT_EQ("\"__main__\"", vm_->eval("__name__", map({}), 1, 78));
    EXPECT_EQ("true", vm_->eval("hasattr(erlang, 'Pid')", map({}), 1, 78));
    vm_->drop_env(1, 77);
    EXPECT_EQ("error: \"NameError\" \"name 'x' is not defined\" nil",
              vm_->eval("x", map({}), 1, 77));
}

TEST_F(WorkerTest, KeepsManyNamespacesApart)
{
    for (uint64_t id = 1; id <= 300; id++)
        ASSERT_EQ("", vm_->exec("x = " + std::to_string(id), 1, id));
    for (uint64_t id = 1; id <= 300; id += 2) {
        vm_->drop_env(1, id);
        ASSERT_EQ("1", vm_->eval("1"));
    }
    for (uint64_t id = 2; id <= 300; id += 2)
        ASSERT_EQ(std::to_string(id), vm_->eval("x", map({}), 1, id));
    EXPECT_EQ("error: \"NameError\" \"name 'x' is not defined\" nil",
              vm_->eval("x", map({}), 1, 151));
}

TEST_F(WorkerTest, FindsFunctionsOfTheNamespaceInMain)
{
    EXPECT_EQ("", vm_->exec("def f(a):\n  return a + y\ny = 3", 1, 5));
    EXPECT_EQ("10", vm_->call("__main__", "f", {integer(7)}, 1, 5));
    EXPECT_EQ("error: \"AttributeError\" \"module '__main__' has no attribute 'f'\" nil",
              vm_->call("__main__", "f", {integer(7)}, 1, 6));
    EXPECT_EQ("error: \"AttributeError\" \"module '__main__' has no attribute 'len'\" nil",
              vm_->call("__main__", "len", {list({})}));
}

TEST_F(WorkerTest, SeesModulesThatWereReplaced)
{
    EXPECT_EQ("4f", vm_->call("math", "sqrt", {integer(16)}));
    EXPECT_EQ("", vm_->exec("import math; old = math.sqrt; math.sqrt = lambda x: 'patched'"));
    EXPECT_EQ("\"patched\"", vm_->call("math", "sqrt", {integer(16)}));
    EXPECT_EQ("", vm_->exec("import sys, types; m = types.ModuleType('math'); m.sqrt = len; "
                            "sys.modules['math'] = m"));
    EXPECT_EQ("2", vm_->call("math", "sqrt", {binary("ab")}));
}

TEST_F(WorkerTest, ConvertsEveryTypeThereAndBack)
{
    std::string huge(40, '\xfe');
    const std::vector<std::pair<std::string, std::string>> cases = {
        {integer(0), "0"},
        {integer(-1), "-1"},
        {integer(INT64_MAX), std::to_string(INT64_MAX)},
        {integer(INT64_MIN + 1), std::to_string(INT64_MIN + 1)},
        {integer(INT64_MIN), "big-0000000000000080"},
        {big(true, huge), print_all(big(true, huge))},
        {big(false, std::string(300, 'x')), print_all(big(false, std::string(300, 'x')))},
        {real(1.5), "1.5f"},
        {real(-0.0), "-0f"},
        {atom("true"), "true"},
        {atom("false"), "false"},
        {atom("none"), "none"},
        {atom("nil"), "none"},
        {atom("undefined"), "none"},
        {atom("infinity"), "\"infinity\""},
        {atom(""), "\"\""},
        {binary("h\xc3\xa9"), "\"h\xc3\xa9\""},
        {binary("\xff\x00\xfe"), "\"\xff\""},
        {list({}), "[]"},
        {list({integer(1), list({binary("x")})}), "[1,[\"x\"]]"},
        {tuple({}), "{}"},
        {tuple({integer(1), binary("x")}), "{1,\"x\"}"},
        {map({}), "#{}"},
        {map({{binary("k"), tuple({integer(1)})}}), "#{\"k\"=>{1}}"},
        {handle(EP_HANDLE_PID, "abc"), "pid:abc:8"},
        {handle(EP_HANDLE_REF, "xyz"), "ref:xyz:8"},
    };
    EXPECT_EQ("", vm_->exec("def same(x): return x"));
    for (const auto &[sent, text] : cases) {
        std::string got = vm_->call("__main__", "same", {sent});
        EXPECT_EQ(text, got.substr(0, got.find('\0')) + (got.find('\0') == got.npos ? "" : "\""));
    }
}

TEST_F(WorkerTest, MakesPythonTypesOfErlangTerms)
{
    auto shown = [&](const std::string &value) { return vm_->call("builtins", "repr", {value}); };
    EXPECT_EQ("\"b'ab'\"", shown(tuple({atom("bytes"), binary("ab")})));
    EXPECT_EQ("\"('bytes', 1)\"", shown(tuple({atom("bytes"), integer(1)})));
    EXPECT_EQ("\"b'\\xff'\"", shown(binary("\xff")));
    EXPECT_EQ("\"{'a': 1}\"", shown(map({{atom("a"), integer(1)}})));
    EXPECT_EQ("\"-57\"", shown(integer(-57)));
    std::string pid = shown(handle(EP_HANDLE_PID, "secret"));
    EXPECT_EQ(0u, pid.find("\"<erlang.Pid ")) << pid;
    EXPECT_EQ(std::string::npos, pid.find("secret"));
    /* Elements of the byte list "abc". */
    std::string payload = binary("builtins") + binary("sum")
                          + list({std::string("\x6b\x00\x03"
                                              "abc",
                                              6)});
    EXPECT_EQ("294", VmSide::shown(vm_->ask(1, EP_KIND_CALL, payload)));
    payload = binary("builtins") + binary("max")
              + std::string("\x6b\x00\x03"
                            "abc",
                            6);
    EXPECT_EQ("99", VmSide::shown(vm_->ask(1, EP_KIND_CALL, payload)));
}

TEST_F(WorkerTest, MakesErlangTermsOfPythonTypes)
{
    const std::vector<std::pair<std::string, std::string>> cases = {
        {"float('nan'), float('inf'), -float('inf')", "{nan,infinity,neg_infinity}"},
        {"b'ab', bytearray(b'cd'), memoryview(b'efgh')[::2]", "{\"ab\",\"cd\",\"eg\"}"},
        {"[range(3), {7}, frozenset([8]), set()]", "[[0,1,2],[7],[8],[]]"},
        {"True, 1, None", "{true,1,none}"},
        {"2**64, -2**63, 2**63-1", "{big+000000000000000001,big-0000000000000080,"
                                   "9223372036854775807}"},
        {"__import__('collections').namedtuple('P', 'x y')(1, 2)", "{1,2}"},
        {"__import__('collections').OrderedDict(a=1)", "#{\"a\"=>1}"},
        {"__import__('enum').IntEnum('E', 'A B').B", "2"},
        {"__import__('decimal').Decimal('1.50')", "\"1.50\""},
        {"1+2j", "\"(1+2j)\""},
        {"type('S', (str,), {})('s')", "\"s\""},
        {"'\\u20ac' * 3000 == '', len('x')", "{false,1}"},
    };
    for (const auto &[code, text] : cases)
        EXPECT_EQ(text, vm_->eval(code));
}

TEST_F(WorkerTest, SaysWhereAConversionFailed)
{
    EXPECT_EQ("error: \"TypeError\"",
              vm_->call("builtins", "len", {map({{list({}), integer(1)}})}).substr(0, 18));
    EXPECT_EQ("error: \"ValueError\" \"args[1]['k'][0]: two keys of the map become the same key: "
              "1.0\" nil",
              vm_->call("builtins", "len",
                        {integer(1), map({{binary("k"), list({map({{integer(1), integer(1)},
                                                                   {real(1), integer(2)}})})}})}));
    EXPECT_EQ("error: \"ValueError\" \"result[1]['x']: two keys of the dict become the same key\" "
              "nil",
              vm_->eval("[1, {'x': {'a': 1, b'a': 2}}]"));
    std::string text = vm_->eval("[0, ('\\ud800',)]");
    EXPECT_EQ(0u, text.find("error: \"UnicodeEncodeError\" \"result[1][0]: 'utf-8' codec")) << text;
    EXPECT_EQ("", vm_->exec("class Bad:\n  def __str__(self): return 1/0"));
    EXPECT_EQ("error: \"ZeroDivisionError\" \"result[0]: division by zero\" nil",
              vm_->eval("[Bad()]"));
    EXPECT_EQ("error: \"TypeError\" \"locals: a key is neither an atom nor a binary\" nil",
              vm_->eval("1", map({{integer(1), integer(1)}})));
}

TEST_F(WorkerTest, RefusesToGoTooDeep)
{
    std::string deep = integer(0), deeper;
    for (int i = 0; i < 1000; i++)
        deep = list({deep});
    deeper = tuple({deep});
    EXPECT_EQ("1", vm_->call("builtins", "len", {deep}));
    EXPECT_EQ("error: \"RecursionError\" \"args[0]: more than 1000 levels\" nil",
              vm_->call("builtins", "len", {deeper}));
    EXPECT_EQ("",
              vm_->exec("x = []\nfor _ in range(999): x = [x]\ny = [[x]]\nz = []; z.append(z)"));
    EXPECT_EQ("[[[", vm_->eval("[x]").substr(0, 3));
    EXPECT_EQ("error: \"RecursionError\" \"result: more than 1000 levels\" nil", vm_->eval("[z]"));
    EXPECT_EQ("error: \"RecursionError\" \"result: more than 1000 levels\" nil",
              vm_->eval("[[y]]"));
}

TEST_F(WorkerTest, RepliesWithTheException)
{
    EXPECT_EQ("error: \"ZeroDivisionError\" \"division by zero\" nil", vm_->eval("1/0"));
    EXPECT_EQ("error: \"TypeError\" \"'float' object is not callable\" nil",
              vm_->call("math", "pi", {}));
    EXPECT_EQ("error: \"ModuleNotFoundError\" \"No module named 'no_such'\" nil",
              vm_->call("no_such", "f", {}));
    EXPECT_EQ("error: \"AttributeError\" \"module 'math' has no attribute 'a.b'\" nil",
              vm_->call("math", "a.b", {}));
    EXPECT_EQ("error: \"SystemExit\" \"3\" nil", vm_->call("sys", "exit", {integer(3)}));
    EXPECT_EQ("error: \"Exception\" \"\" nil", vm_->exec("raise Exception()"));
    EXPECT_EQ("error: \"E\" \"unknown\" nil",
              vm_->exec("class E(Exception):\n  def __str__(self): raise ValueError()\nraise E()"));

    Reply reply = vm_->ask(1, EP_KIND_EXEC, binary("raise StopIteration(1)"));
    EXPECT_EQ(EP_ERROR_STOP_ITERATION, static_cast<int>(reply.aux));
    reply = vm_->ask(1, EP_KIND_EXEC, binary("raise KeyboardInterrupt"));
    EXPECT_EQ(EP_ERROR_INTERRUPTED, static_cast<int>(reply.aux));
    reply = vm_->ask(1, EP_KIND_EVAL, binary("1/0") + map({}), EP_FLAG_TRACEBACK);
    EXPECT_NE(std::string::npos, reply.text().find("\"Traceback (most recent call last):"));
    reply = vm_->ask(1, EP_KIND_EXEC, binary("raise Exception('x' * 10**6)"), EP_FLAG_TRACEBACK);
    EXPECT_LT(reply.payload.size(), 4096u + 16384u + 100u);
    EXPECT_NE(std::string::npos, reply.payload.find("\n  ...\n"));
}

TEST_F(WorkerTest, ReleasesWhatAFailedCallHeld)
{
    EXPECT_EQ("", vm_->exec("import weakref\nclass C: pass\ndef f():\n  global w\n  c = C()\n  "
                            "w = weakref.ref(c)\n  1/0"));
    EXPECT_EQ("error: \"ZeroDivisionError\" \"division by zero\" nil",
              vm_->call("__main__", "f", {}));
    EXPECT_EQ("true", vm_->eval("w() is None"));
}

TEST_F(WorkerTest, DoesNotLeakObjects)
{
    std::string value =
        map({{binary("k"), list({tuple({integer(1), real(2), big(true, "0123456789")}),
                                 handle(EP_HANDLE_REF, "xyz"), atom("a"), binary("\xff\xfe")})}});
    std::string kwargs = VmSide::call_payload("builtins", "dict", {value})
                         + map({{binary("a"), value}, {atom("b"), list({integer(2)})}});
    auto round = [&](int n) {
        for (int i = 0; i < n; i++) {
            vm_->call("copy", "copy", {value});
            vm_->call("copy", "copy", std::vector<std::string>(12, value));
            vm_->call("no_such" + std::to_string(i % 5), "f", {value});
            vm_->ask(1, EP_KIND_CALL, kwargs, EP_FLAG_KWARGS);
            vm_->eval("x", map({{binary("x"), value}}));
            vm_->eval("[{'k': [1, '\\ud800']}]");
            vm_->eval("{1: 2, (3,): 2**70, b'x': '\\u20ac', None: memoryview(b'123')}");
            vm_->call("builtins", "len", {list({map({{integer(1), value}, {real(1), value}})})});
            vm_->ask(1, EP_KIND_EXEC, binary("raise ValueError('x')"), EP_FLAG_TRACEBACK);
            vm_->exec("y = 1", 1, 1000 + i);
            vm_->drop_env(1, 1000 + i);
        }
        vm_->eval("__import__('gc').collect()");
        return std::stol(vm_->eval("__import__('sys').getallocatedblocks()"));
    };
    /* One object per round would be 1500; caches of Python itself move by some. */
    long warm = round(300), again = round(1500);
    EXPECT_LT(again - warm, 500);
}

TEST_F(WorkerTest, CarriesLargePayloadsBothWaysAndHandsBlocksBack)
{
    for (size_t size : {193u, 5000u, 70000u, 1u << 20, 20u << 20}) {
        std::string bytes(size, '\xff');
        std::string got = vm_->call("builtins", "bytes", {binary(bytes)});
        ASSERT_EQ(size + 2, got.size());
        ASSERT_EQ(bytes, got.substr(1, size));
        ASSERT_EQ(0u, vm_->blocks_out(1));
        std::string text(size, 'x');
        ASSERT_EQ("\"" + text + "\"", vm_->call("builtins", "str", {binary(text)}));
    }
    /* More than the slab holds at once, if blocks did not come back. */
    std::string big(40u << 20, 'y');
    for (int i = 0; i < 10; i++)
        ASSERT_EQ(std::to_string(big.size()), vm_->call("builtins", "len", {binary(big)}));
    for (int i = 0; i < 10; i++)
        ASSERT_EQ((40u << 20) + 2, vm_->eval("'z' * (40 << 20)").size());
    ASSERT_EQ((300000u * 2) + 1, vm_->eval("[1] * 300000").size());
}

TEST_F(WorkerTest, RefusesResultsLargerThanAMessage)
{
    /* Memory that nobody touches: what is too long is not read. */
    EXPECT_EQ("error: \"MemoryError\" \"result: 2147549185 bytes do not fit in one message, which "
              "holds 2147549184\" nil",
              vm_->eval("memoryview(__import__('mmap').mmap(-1, (2 << 30) + (64 << 10) + 1))"));
    EXPECT_EQ("error: \"MemoryError\" \"result: more than 2147549184 bytes do not fit in one "
              "message, which holds 2147549184\" nil",
              vm_->eval("[bytes(64 << 10), memoryview(__import__('mmap').mmap(-1, 2 << 30))]"));
    EXPECT_EQ("error: \"MemoryError\"", vm_->eval("range(10**12)").substr(0, 20));
    EXPECT_EQ("2", vm_->eval("1 + 1"));
}

TEST_F(WorkerTest, WaitsForRoomInTheResponseRing)
{
    /* 256 requests go in at a time; nobody reads until the ring is full. */
    const uint64_t n = 600;
    uint64_t sent = 0, got = 0;
    while (got < n) {
        ep_cell *cell;
        while (sent < n && ep_ring_reserve(&vm_->lane(1)->call, &cell) == 0) {
            ASSERT_NO_FATAL_FAILURE(vm_->send(
                1, EP_KIND_CALL, VmSide::call_payload("math", "sqrt", {integer(16)}), 1000 + sent));
            sent++;
        }
        if (sent < n && sent - got < 400)
            continue;
        Reply reply = vm_->receive(1);
        ASSERT_EQ(1000 + got, reply.call_id);
        ASSERT_EQ("4f", VmSide::shown(reply));
        got++;
    }
}

TEST_F(WorkerTest, WaitsForRoomInTheSlab)
{
    for (uint64_t i = 0; i < 6; i++)
        vm_->send(1, EP_KIND_EVAL, binary("[bytes(20 << 20), bytes(20 << 20)]") + map({}), 50 + i);
    for (uint64_t i = 0; i < 6; i++) {
        Reply reply = vm_->receive(1);
        ASSERT_EQ(50 + i, reply.call_id);
        ASSERT_LT(40u << 20, reply.payload.size());
    }
}

TEST_F(WorkerTest, DropsWhatWasCancelledBeforeItStarted)
{
    ASSERT_NO_FATAL_FAILURE(start_endless("while True: pass", 10));
    vm_->send(1, EP_KIND_EXEC, binary("ran = True"), 11);
    EXPECT_TRUE(vm_->cancel_last(1, 11));
    vm_->interrupt(1, 10);
    Reply reply = vm_->receive(1);
    EXPECT_EQ(10u, reply.call_id);
    EXPECT_EQ(EP_ERROR_INTERRUPTED, static_cast<int>(reply.aux));
    reply = vm_->receive(1);
    EXPECT_EQ(11u, reply.call_id);
    EXPECT_EQ(EP_KIND_DROPPED, reply.kind);
    EXPECT_EQ("false", vm_->eval("'ran' in globals()"));
}

TEST_F(WorkerTest, InterruptsALoopAndASleep)
{
    uint64_t id = 100;
    for (const char *code : {"while True: pass", "import time; time.sleep(60)",
                             "import re; re.match('(a*)*b', 'a' * 40)"}) {
        ASSERT_NO_FATAL_FAILURE(start_endless(code, ++id));
        vm_->interrupt(1, id);
        Reply reply = vm_->receive(1);
        EXPECT_EQ(id, reply.call_id) << code;
        EXPECT_EQ(EP_KIND_ERROR, reply.kind) << code;
        EXPECT_EQ(EP_ERROR_INTERRUPTED, static_cast<int>(reply.aux)) << code;
        EXPECT_EQ("\"KeyboardInterrupt\" \"\" nil", reply.text());
    }
}

TEST_F(WorkerTest, InterruptsASleepAtWhateverMomentItBegins)
{
    EXPECT_EQ("", vm_->exec("import time"));
    for (uint64_t id = 1; id <= 500; id++) {
        ASSERT_NO_FATAL_FAILURE(start_endless("time.sleep(60)", id));
        for (uint64_t i = 0; i < (id % 50) * 20; i++)
            (void)vm_->taken(1); /* a different moment each time */
        vm_->interrupt(1, id);
        Reply reply = vm_->receive(1);
        ASSERT_EQ(id, reply.call_id);
        ASSERT_EQ(EP_ERROR_INTERRUPTED, static_cast<int>(reply.aux));
    }
}

TEST_F(WorkerTest, InterruptsOnOtherLanesAndUnderAnotherHandler)
{
    ASSERT_NO_FATAL_FAILURE(start(2));
    ASSERT_NO_FATAL_FAILURE(start_endless("while True: pass", 7, 2));
    vm_->interrupt(1, 7); /* another lane: no effect */
    vm_->interrupt(2, 8); /* another call: no effect */
    vm_->interrupt(2, 7);
    EXPECT_EQ(EP_ERROR_INTERRUPTED, static_cast<int>(vm_->receive(2).aux));

    EXPECT_EQ("", vm_->exec("import signal; signal.signal(signal.SIGINT, lambda *a: None)"));
    ASSERT_NO_FATAL_FAILURE(start_endless("while True: pass", 9, 1));
    vm_->interrupt(1, 9);
    EXPECT_EQ(EP_ERROR_INTERRUPTED, static_cast<int>(vm_->receive(1).aux));
    EXPECT_EQ("", vm_->exec("signal.signal(signal.SIGINT, signal.SIG_DFL)"));
    ASSERT_NO_FATAL_FAILURE(start_endless("while True: pass", 10, 1));
    vm_->interrupt(1, 10);
    EXPECT_EQ(EP_ERROR_INTERRUPTED, static_cast<int>(vm_->receive(1).aux));
    EXPECT_EQ("2", vm_->eval("1 + 1"));
}

TEST_F(WorkerTest, NeverInterruptsALaterCall)
{
    /* Interrupts race with the ends of short calls; each id is interrupted, and
     * any other call that sees the interrupt would say so. */
    std::string work = binary("[i for i in range(200)] and None") + map({});
    for (uint64_t id = 1000; id < 3000; id++) {
        vm_->send(1, EP_KIND_EVAL, work, id);
        vm_->interrupt(1, id);
        Reply reply = vm_->receive(1);
        ASSERT_EQ(id, reply.call_id);
        ASSERT_TRUE(reply.kind == EP_KIND_RESULT
                    || (reply.kind == EP_KIND_ERROR && reply.aux == EP_ERROR_INTERRUPTED));
        ASSERT_EQ("19900", vm_->eval("sum([i for i in range(200)])"));
    }
}

TEST_F(WorkerTest, StopsAndStartsAgain)
{
    EXPECT_EQ("", vm_->exec("x = 1"));
    EXPECT_EQ("", vm_->exec("y = 1", 1, 4));
    EXPECT_EQ(EP_KIND_STOPPED, vm_->stop(1).kind);
    ASSERT_NO_FATAL_FAILURE(start(1));
    EXPECT_EQ("false", vm_->eval("'x' in globals()"));
    EXPECT_EQ("false", vm_->eval("'y' in globals()", map({}), 1, 4));
    ASSERT_NO_FATAL_FAILURE(start(2));
    EXPECT_EQ("4f", vm_->call("math", "sqrt", {integer(16)}, 2));
    EXPECT_EQ(EP_KIND_STOPPED, vm_->stop(2).kind);
    EXPECT_EQ(0u, vm_->restart(2, EP_MODE_WORKER).aux);
    EXPECT_EQ("4f", vm_->call("math", "sqrt", {integer(16)}, 2));
}

TEST_F(WorkerTest, SharesModulesBetweenLanesOfOneInterpreter)
{
    ASSERT_NO_FATAL_FAILURE(start(2));
    EXPECT_EQ("", vm_->exec("import math; math.shared = 5"));
    EXPECT_EQ("5", vm_->eval("__import__('math').shared", map({}), 2));
    EXPECT_EQ("true", vm_->eval("__import__('threading').current_thread() is "
                                "__import__('threading').main_thread()"));
    EXPECT_EQ("false", vm_->eval("__import__('threading').current_thread() is "
                                 "__import__('threading').main_thread()",
                                 map({}), 2));
}

TEST_F(WorkerTest, RunsAnInterpreterPerLaneInOwngil)
{
    if (!has_owngil()) {
        EXPECT_EQ(EP_KIND_STOPPED, vm_->stop(1).kind);
        Reply refused = vm_->start(1, EP_MODE_OWNGIL);
        EXPECT_EQ(EP_KIND_STARTED, refused.kind);
        EXPECT_EQ(1u, refused.aux);
        EXPECT_EQ(0u, refused.text().find("\"RuntimeError\" \"owngil needs Python 3.12 or newer"));
        ASSERT_NO_FATAL_FAILURE(start(1));
        return;
    }
    ASSERT_NO_FATAL_FAILURE(start(2, EP_MODE_OWNGIL));
    EXPECT_EQ("", vm_->exec("import math; math.shared = 5"));
    EXPECT_EQ("false", vm_->eval("hasattr(__import__('math'), 'shared')", map({}), 2));
    EXPECT_EQ("pid:abc:8", vm_->eval("x", map({{binary("x"), handle(EP_HANDLE_PID, "abc")}}), 2));
    ASSERT_NO_FATAL_FAILURE(start_endless("while True: pass", 70, 2));
    EXPECT_EQ("4f", vm_->call("math", "sqrt", {integer(16)}));
    vm_->interrupt(2, 70);
    EXPECT_EQ(EP_ERROR_INTERRUPTED, static_cast<int>(vm_->receive(2).aux));
    EXPECT_EQ("0", vm_->eval("__import__('subprocess').run(['true']).returncode", map({}), 2));
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(EP_KIND_STOPPED, vm_->stop(2).kind);
        ASSERT_EQ(0u, vm_->restart(2, EP_MODE_OWNGIL).aux);
        EXPECT_EQ("4f", vm_->call("math", "sqrt", {integer(16)}, 2));
    }
    EXPECT_EQ(EP_KIND_STOPPED, vm_->stop(1).kind);
    ASSERT_NO_FATAL_FAILURE(start(1, EP_MODE_OWNGIL));
    EXPECT_EQ("4f", vm_->call("math", "sqrt", {integer(16)}));
    ASSERT_NO_FATAL_FAILURE(start_endless("while True: pass", 71));
    vm_->interrupt(1, 71);
    EXPECT_EQ(EP_ERROR_INTERRUPTED, static_cast<int>(vm_->receive(1).aux));
}

TEST_F(WorkerTest, LetsBackgroundThreadsRun)
{
    EXPECT_EQ("",
              vm_->exec("import threading\nn = 0\ndef count():\n  global n\n  while n < 100000: "
                        "n += 1\n  done.set()\ndone = threading.Event()\n"
                        "threading.Thread(target=count).start()"));
    for (int i = 0; i < 1000; i++)
        ASSERT_EQ("4f", vm_->call("math", "sqrt", {integer(16)}));
    EXPECT_EQ("true", vm_->eval("done.wait(20)"));
}

TEST_F(WorkerTest, RunsSignalHandlersWhileIdle)
{
    EXPECT_EQ("", vm_->exec("import signal, os, threading\nr, w = os.pipe()\n"
                            "signal.signal(signal.SIGUSR1, lambda *a: os.write(w, b'x'))\n"));
    EXPECT_EQ(0, kill(vm_->pid(), SIGUSR1));
    EXPECT_EQ("\"x\"", vm_->eval("os.read(r, 1)"));
}

TEST_F(WorkerTest, SurvivesForkInPythonCode)
{
    EXPECT_EQ("", vm_->exec("import os"));
    /* The child comes back into our loop. */
    for (int i = 0; i < 3; i++)
        EXPECT_EQ("true", vm_->eval("(lambda p: p == 0 or os.waitpid(p, 0) == (p, 0))(os.fork())"));
    EXPECT_EQ("6",
              vm_->exec("from multiprocessing import get_context\n"
                        "with get_context('fork').Pool(2) as p: s = sum(p.map(abs, [-1, -2, -3]))")
                      == ""
                  ? vm_->eval("s")
                  : "exec failed");
}

TEST_F(WorkerTest, DiesAloneBySegmentationFault)
{
    vm_->send(1, EP_KIND_CALL, VmSide::call_payload("ctypes", "string_at", {integer(0)}), 5);
    EXPECT_EQ(256 + SIGSEGV, vm_->wait());
    EXPECT_EQ(0, vm_->receive(1, 0).kind);
}

TEST_F(WorkerTest, ExitsWhenPythonClosedItsFds)
{
    EXPECT_EQ("", vm_->exec("import os; os.closerange(3, 5000)"));
    ep_bell_rearm(&vm_->lane(1)->response_bell);
    vm_->send(1, EP_KIND_EVAL, binary("1") + map({}), 5);
    EXPECT_EQ(70, vm_->wait());
}

TEST_F(WorkerTest, ShutsDownWithAtexitFunctions)
{
    ASSERT_NO_FATAL_FAILURE(start(2, has_owngil() ? EP_MODE_OWNGIL : EP_MODE_WORKER));
    int fds[2];
    ASSERT_EQ(0, pipe(fds));
    std::string path = "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(fds[1]);
    std::string code = "import atexit; f = open('" + path + "', 'w'); atexit.register(f.write, '";
    EXPECT_EQ("", vm_->exec(code + "one')"));
    EXPECT_EQ("", vm_->exec(code + "two')", 2));
    /* atexit runs in reverse order; close to flush. */
    EXPECT_EQ("", vm_->exec("g = f.close; atexit.unregister(f.write); w = f.write\n"
                            "atexit.register(lambda: (w('one'), g()))"));
    vm_->send(0, EP_KIND_SHUTDOWN);
    EXPECT_EQ(EP_EXIT_ASKED, vm_->wait());
    char text[16] = {};
    EXPECT_LE(3, read(fds[0], text, sizeof(text) - 1));
    EXPECT_NE(nullptr, strstr(text, "one"));
    close(fds[0]);
    close(fds[1]);
}

TEST_F(WorkerTest, ShutsDownWhileACallRuns)
{
    ASSERT_NO_FATAL_FAILURE(start_endless("while True: pass", 5));
    vm_->send(0, EP_KIND_SHUTDOWN);
    EXPECT_EQ(EP_EXIT_ASKED, vm_->wait(3500));
}

TEST_F(WorkerTest, ShutsDownAlthoughPythonRefuses)
{
    ASSERT_NO_FATAL_FAILURE(start_endless(
        "while True:\n  try:\n    while True: pass\n  except BaseException: pass", 5));
    vm_->send(0, EP_KIND_SHUTDOWN);
    EXPECT_EQ(EP_EXIT_ASKED, vm_->wait(6000));
}

TEST_F(WorkerTest, EndsWhenTheVmIsGone)
{
    ASSERT_NO_FATAL_FAILURE(start_endless("while True: pass", 5));
    vm_->close_control();
    EXPECT_EQ(0, vm_->wait(2000));
}

TEST_F(WorkerTest, EndsWhenTheProtocolIsBroken)
{
    vm_->send(1, EP_KIND_CALL, "\x01\x02", 5);
    EXPECT_EQ(EP_EXIT_PROTOCOL, vm_->wait());
}

TEST(WorkerStart, RefusesSegmentsThatDoNotFit)
{
    const char *program = getenv("EP_WORKER_PATH");
#ifdef EP_WORKER_PATH
    if (program == nullptr)
        program = EP_WORKER_PATH;
#endif
    VmSide vm(2);
    static_cast<ep_layout_header *>(vm.segment_a()->mem)->version++;
    ASSERT_NO_FATAL_FAILURE(vm.spawn(program, "", "/"));
    EXPECT_EQ(EP_EXIT_CANNOT_START, vm.wait());
}

} // namespace
