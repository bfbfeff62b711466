/* A qemu-user plugin that counts the guest's instructions.
 *
 * It writes a line "instructions N" to standard error, N being the total so far, each time the guest calls
 * sched_yield: a system call that Python offers and that changes nothing. Debian ships no header for plugins,
 * so what is used of version 1 of their interface is declared here.
 *
 *   gcc -O2 -shared -fPIC -o icount.so icount.c
 *   qemu-aarch64 -plugin ./icount.so ...
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#define SCHED_YIELD 124 /* on aarch64 */
#define ADD_U64 0

struct qemu_plugin_tb;
typedef uint64_t plugin_id;
typedef void (*on_translation)(plugin_id, struct qemu_plugin_tb *);
typedef void (*on_syscall)(plugin_id, unsigned int cpu, int64_t number, uint64_t, uint64_t, uint64_t, uint64_t,
                           uint64_t, uint64_t, uint64_t, uint64_t);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, on_translation callback);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, int operation, void *counter,
                                              uint64_t value);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id id, on_syscall callback);

int qemu_plugin_version = 1;

static uint64_t instructions;

/* A block runs as a whole, so its length is added when it begins; qemu makes that a single addition. */
static void translated(plugin_id id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &instructions, qemu_plugin_tb_n_insns(block));
}

static void called(plugin_id id, unsigned int cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c,
                   uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == SCHED_YIELD)
        fprintf(stderr, "instructions %" PRIu64 "\n", instructions);
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info, (void)argc, (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
