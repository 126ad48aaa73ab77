/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "fake_erl_term.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

/* Resources, processes and threads. One lock guards all that is shared;
 * nothing of the library runs under it. */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* --- resources ------------------------------------------------------------------------ */

struct enif_resource_type_t {
    struct enif_resource_type_t *next;
    const char *name;
    ErlNifResourceTypeInit init;
};

struct monitor {
    struct monitor *next;
    struct fake_resource *resource;
    uint64_t pid;
};

/* As in the VM, the object is aligned to 8 bytes and to no more. */
struct fake_resource {
    struct fake_resource *next, **link;
    ErlNifResourceType *type;
    uint64_t id;
    long references;
    uint64_t object[];
};
_Static_assert(offsetof(struct fake_resource, object) % 16 == 8, "aligned to 8 bytes only");

static ErlNifResourceType *types;
static struct fake_resource *resources;
static struct monitor *monitors;
static uint64_t last_resource_id;

struct fake_resource *fake_resource_of(const void *object)
{
    return (struct fake_resource *)((uintptr_t)object - offsetof(struct fake_resource, object));
}

void *fake_resource_object(struct fake_resource *resource)
{
    return resource->object;
}

ErlNifResourceType *fake_resource_type(const struct fake_resource *resource)
{
    return resource->type;
}

uint64_t fake_resource_id(const struct fake_resource *resource)
{
    return resource->id;
}

long fake_references(const void *object)
{
    return __atomic_load_n(&fake_resource_of(object)->references, __ATOMIC_RELAXED);
}

/* Keeps a resource that may have lost its last reference already. Under the lock. */
static bool keep_living(struct fake_resource *resource)
{
    long references = __atomic_load_n(&resource->references, __ATOMIC_RELAXED);

    while (references > 0
           && !__atomic_compare_exchange_n(&resource->references, &references, references + 1, true,
                                           __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return references > 0;
}

struct fake_resource *fake_resource_find(uint64_t id)
{
    pthread_mutex_lock(&lock);
    struct fake_resource *resource = resources;
    while (resource != NULL && resource->id != id)
        resource = resource->next;
    if (resource != NULL && !keep_living(resource))
        resource = NULL;
    pthread_mutex_unlock(&lock);
    return resource;
}

void fake_resource_keep(struct fake_resource *resource)
{
    fake_must(__atomic_fetch_add(&resource->references, 1, __ATOMIC_RELAXED) > 0,
              "a dead resource is kept");
}

static void destroy_resource(struct fake_resource *resource)
{
    long n = 0;

    pthread_mutex_lock(&lock);
    for (struct monitor **at = &monitors, *monitor; (monitor = *at) != NULL;) {
        if (monitor->resource != resource) {
            at = &monitor->next;
            continue;
        }
        *at = monitor->next;
        free(monitor);
        n++;
    }
    *resource->link = resource->next;
    if (resource->next != NULL)
        resource->next->link = resource->link;
    pthread_mutex_unlock(&lock);
    fake_count(&fake_live.monitors, -n);

    if (resource->type->init.dtor != NULL) {
        ErlNifEnv *env = enif_alloc_env();
        resource->type->init.dtor(env, resource->object);
        enif_free_env(env);
    }
    free(resource);
    fake_count(&fake_live.resources, -1);
}

void fake_resource_release(struct fake_resource *resource)
{
    long left = __atomic_sub_fetch(&resource->references, 1, __ATOMIC_ACQ_REL);

    fake_must(left >= 0, "a resource is released once too often");
    if (left == 0)
        destroy_resource(resource);
}

ErlNifResourceType *enif_open_resource_type_x(ErlNifEnv *env, const char *name_str,
                                              const ErlNifResourceTypeInit *init,
                                              ErlNifResourceFlags flags, ErlNifResourceFlags *tried)
{
    (void)env;
    (void)flags;
    (void)tried;
    pthread_mutex_lock(&lock);
    ErlNifResourceType *type = types;
    while (type != NULL && strcmp(type->name, name_str) != 0)
        type = type->next;
    if (type == NULL) {
        type = fake_alloc(sizeof(*type));
        *type = (ErlNifResourceType){.next = types, .name = name_str};
        types = type;
    }
    type->init = *init;
    pthread_mutex_unlock(&lock);
    return type;
}

void *enif_alloc_resource(ErlNifResourceType *type, size_t size)
{
    if (fake_memory_fails(size))
        return NULL;
    struct fake_resource *resource = fake_alloc(sizeof(*resource) + size);
    /* Not zeroes: the library has to fill what its destructor reads. */
    memset(resource->object, 0xA5, size);
    resource->type = type;
    resource->references = 1;
    pthread_mutex_lock(&lock);
    resource->id = ++last_resource_id;
    resource->next = resources;
    resource->link = &resources;
    if (resources != NULL)
        resources->link = &resource->next;
    resources = resource;
    pthread_mutex_unlock(&lock);
    fake_count(&fake_live.resources, 1);
    return resource->object;
}

void enif_keep_resource(void *obj)
{
    fake_resource_keep(fake_resource_of(obj));
}

void enif_release_resource(void *obj)
{
    fake_resource_release(fake_resource_of(obj));
}

/* --- processes ------------------------------------------------------------------------ */

struct message {
    struct message *next;
    struct fake_heap *heap;
    ERL_NIF_TERM term;
};

struct process {
    struct process *next;
    uint64_t number;
    pthread_cond_t arrived;
    struct message *first, **last;
};

#define PROCESS_BUCKETS 64u
static struct process *processes[PROCESS_BUCKETS];
static uint64_t last_pid;

static void add_time(struct timespec *time, int ms)
{
    time->tv_sec += ms / 1000;
    time->tv_nsec += ms % 1000 * 1000000l;
    if (time->tv_nsec >= 1000000000) {
        time->tv_nsec -= 1000000000;
        time->tv_sec++;
    }
}

ErlNifPid fake_spawn(void)
{
    struct process *process = fake_alloc(sizeof(*process));
    pthread_condattr_t attributes;

    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&process->arrived, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    process->first = NULL;
    process->last = &process->first;
    pthread_mutex_lock(&lock);
    process->number = ++last_pid;
    process->next = processes[process->number % PROCESS_BUCKETS];
    processes[process->number % PROCESS_BUCKETS] = process;
    pthread_mutex_unlock(&lock);
    return (ErlNifPid){.pid = process->number << 6 | FAKE_TAG_PID};
}

/* Where the process is linked; NULL there: it is dead. Under the lock. */
static struct process **find_process(ERL_NIF_TERM pid)
{
    uint64_t number = pid >> 6;
    struct process **at = &processes[number % PROCESS_BUCKETS];

    fake_must(fake_is_pid(pid) && number > 0 && number <= last_pid, "not a pid");
    while (*at != NULL && (*at)->number != number)
        at = &(*at)->next;
    return at;
}

bool fake_is_alive(ErlNifPid pid)
{
    pthread_mutex_lock(&lock);
    bool is_alive = *find_process(pid.pid) != NULL;
    pthread_mutex_unlock(&lock);
    return is_alive;
}

int enif_is_process_alive(ErlNifEnv *env, ErlNifPid *pid)
{
    (void)env;
    return fake_is_alive(*pid);
}

ErlNifEnv *fake_env_create(ErlNifPid pid)
{
    return fake_env_alloc(pid.pid);
}

ErlNifPid *enif_self(ErlNifEnv *caller_env, ErlNifPid *pid)
{
    fake_must(caller_env->pid != 0, "enif_self() in an environment of no process");
    pid->pid = caller_env->pid;
    return pid;
}

static void free_messages(struct message *message)
{
    long n = 0;

    for (struct message *next; message != NULL; message = next, n++) {
        next = message->next;
        fake_heap_free(message->heap);
        free(message);
    }
    fake_count(&fake_live.messages, -n);
}

static void free_process(struct process *process)
{
    free_messages(process->first);
    (void)pthread_cond_destroy(&process->arrived);
    free(process);
}

/* Takes a monitor of pid whose resource lives still; keeps the resource. Under the lock. */
static struct monitor *take_monitor(uint64_t number)
{
    for (struct monitor **at = &monitors, *monitor; (monitor = *at) != NULL; at = &monitor->next) {
        if (monitor->pid == number && keep_living(monitor->resource)) {
            *at = monitor->next;
            return monitor;
        }
    }
    return NULL;
}

static void tell_down(struct monitor *monitor, ErlNifPid pid)
{
    struct fake_resource *resource = monitor->resource;
    ErlNifEnv *env = enif_alloc_env();
    ErlNifMonitor which;

    memset(&which, 0, sizeof(which));
    resource->type->init.down(env, resource->object, &pid, &which);
    enif_free_env(env);
    fake_resource_release(resource);
    free(monitor);
    fake_count(&fake_live.monitors, -1);
}

void fake_exit(ErlNifPid pid)
{
    pthread_mutex_lock(&lock);
    struct process **at = find_process(pid.pid);
    struct process *process = *at;
    if (process != NULL)
        *at = process->next;
    pthread_mutex_unlock(&lock);
    if (process == NULL)
        return;
    free_process(process);

    for (;;) {
        pthread_mutex_lock(&lock);
        struct monitor *monitor = take_monitor(pid.pid >> 6);
        pthread_mutex_unlock(&lock);
        if (monitor == NULL)
            return;
        tell_down(monitor, pid);
    }
}

int enif_monitor_process(ErlNifEnv *env, void *obj, const ErlNifPid *target_pid,
                         ErlNifMonitor *monitor)
{
    struct fake_resource *resource = fake_resource_of(obj);
    struct monitor *new_one = fake_alloc(sizeof(*new_one));

    (void)env;
    fake_must(resource->type->init.down != NULL, "a monitor without a down callback");
    if (monitor != NULL)
        memset(monitor, 0, sizeof(*monitor));
    pthread_mutex_lock(&lock);
    bool is_alive = *find_process(target_pid->pid) != NULL;
    if (is_alive) {
        *new_one =
            (struct monitor){.next = monitors, .resource = resource, .pid = target_pid->pid >> 6};
        monitors = new_one;
    }
    pthread_mutex_unlock(&lock);
    if (is_alive)
        fake_count(&fake_live.monitors, 1);
    else
        free(new_one);
    return is_alive ? 0 : 1;
}

/* The oldest of the object, for the faked VM does not number them. */
int enif_demonitor_process(ErlNifEnv *env, void *obj, const ErlNifMonitor *monitor)
{
    struct fake_resource *resource = fake_resource_of(obj);
    struct monitor *found = NULL;

    (void)env;
    (void)monitor;
    pthread_mutex_lock(&lock);
    for (struct monitor **at = &monitors; *at != NULL && found == NULL; at = &(*at)->next) {
        if ((*at)->resource == resource) {
            found = *at;
            *at = found->next;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    if (found != NULL)
        fake_count(&fake_live.monitors, -1);
    free(found);
    return found == NULL;
}

static _Thread_local int thread_type = ERL_NIF_THR_UNDEFINED;

int enif_send(ErlNifEnv *caller_env, const ErlNifPid *to_pid, ErlNifEnv *msg_env, ERL_NIF_TERM msg)
{
    struct message *message = fake_alloc(sizeof(*message));

    /* NULL on a scheduler, too: a message of no process. */
    (void)caller_env;
    fake_must(msg_env != NULL, "a message without an environment is not there");
    fake_check_home(msg_env, msg);
    pthread_mutex_lock(&lock);
    struct process *process = *find_process(to_pid->pid);
    bool is_alive = process != NULL;
    if (is_alive) {
        *message = (struct message){.heap = msg_env->heap, .term = msg};
        msg_env->heap = NULL;
        *process->last = message;
        process->last = &message->next;
        fake_count(&fake_live.messages, 1);
        (void)pthread_cond_signal(&process->arrived);
    }
    pthread_mutex_unlock(&lock);
    if (!is_alive)
        free(message);
    return is_alive;
}

int enif_is_pid(ErlNifEnv *env, ERL_NIF_TERM term)
{
    (void)env;
    return fake_is_pid(term);
}

#define REMOTE (UINT64_C(1) << 48)

ERL_NIF_TERM fake_make_remote_pid(uint64_t number)
{
    return (REMOTE | number << 6) | FAKE_TAG_PID;
}

int enif_get_local_pid(ErlNifEnv *env, ERL_NIF_TERM term, ErlNifPid *pid)
{
    (void)env;
    if (!fake_is_pid(term) || (term & REMOTE) != 0)
        return 0;
    pid->pid = term;
    return 1;
}

ErlNifEnv *fake_receive(ErlNifPid pid, int timeout_ms, ERL_NIF_TERM *ret_message)
{
    struct timespec until;
    int rc = 0;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    add_time(&until, timeout_ms > 0 ? timeout_ms : 0);
    pthread_mutex_lock(&lock);
    struct process *process = *find_process(pid.pid);
    fake_must(process != NULL, "a dead process receives");
    while (process->first == NULL && timeout_ms != 0 && rc == 0)
        rc = timeout_ms < 0 ? pthread_cond_wait(&process->arrived, &lock)
                            : pthread_cond_timedwait(&process->arrived, &lock, &until);
    struct message *message = process->first;
    if (message != NULL) {
        process->first = message->next;
        if (process->first == NULL)
            process->last = &process->first;
        fake_count(&fake_live.messages, -1);
    }
    pthread_mutex_unlock(&lock);
    if (message == NULL)
        return NULL;
    ErlNifEnv *env = fake_env_of_heap(message->heap);
    env->pid = pid.pid;
    *ret_message = message->term;
    free(message);
    return env;
}

void fake_free_processes(void)
{
    for (unsigned i = 0; i < PROCESS_BUCKETS; i++) {
        for (struct process *process = processes[i], *next; process != NULL; process = next) {
            next = process->next;
            free_process(process);
        }
        processes[i] = NULL;
    }
}

/* --- threads -------------------------------------------------------------------------- */

struct ErlDrvTid_ {
    pthread_t thread;
    bool is_held;
    void *args; /* which the thread would free */
};

static enum fake_threads threads = FAKE_THREADS_RUN;

void fake_set_threads(enum fake_threads how)
{
    threads = how;
}

int enif_thread_create(char *name, ErlNifTid *tid, void *(*func)(void *), void *args,
                       ErlNifThreadOpts *opts)
{
    ErlNifTid made = fake_alloc(sizeof(*made));
    int rc = threads == FAKE_THREADS_FAIL ? 11 /* EAGAIN */ : 0;

    (void)name;
    (void)opts;
    made->is_held = threads == FAKE_THREADS_HELD;
    made->args = args;
    if (rc == 0 && !made->is_held)
        rc = pthread_create(&made->thread, NULL, func, args);
    if (rc != 0) {
        free(made);
        return rc;
    }
    fake_count(&fake_live.threads, 1);
    *tid = made;
    return 0;
}

int enif_thread_join(ErlNifTid tid, void **respp)
{
    int rc = tid->is_held ? 0 : pthread_join(tid->thread, respp);

    if (tid->is_held)
        enif_free(tid->args);
    free(tid);
    fake_count(&fake_live.threads, -1);
    return rc;
}

void fake_enter(int type)
{
    thread_type = type;
}

int enif_thread_type(void)
{
    return thread_type;
}

int enif_consume_timeslice(ErlNifEnv *env, int percent)
{
    fake_must(env->pid != 0 && percent >= 1 && percent <= 100, "not a part of a time slice");
    return 0;
}
