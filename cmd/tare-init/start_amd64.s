#include "textflag.h"

// Nothing here is called by Go or calls it. Registers that keep a meaning:
//	R12  argv of the program to start (NULL-terminated)
//	R13  envp
//	R14  pid of the program
//	R15  a block of memory on the stack, below

// The block at R15.
#define all	0	// signal set: every signal
#define none	8	// signal set: no signal
#define status	16	// of wait4
#define group	24	// process group, for TIOCSPGRP
#define ignore	32	// struct sigaction of SIG_IGN: 32 bytes
#define deflt	64	// struct sigaction of SIG_DFL: 32 bytes
#define path	96	// buffer for a PATH entry and the program's name
#define pathEnd	4192
#define block	4224

#define SYS_read	0
#define SYS_write	1
#define SYS_rt_sigaction	13
#define SYS_rt_sigprocmask	14
#define SYS_ioctl	16
#define SYS_clone	56
#define SYS_execve	59
#define SYS_exit_group	231
#define SYS_wait4	61
#define SYS_kill	62
#define SYS_setpgid	109
#define SYS_getpgrp	111
#define SYS_rt_sigtimedwait	128

#define SIG_SETMASK	2
#define SIGCHLD	17
#define SIGTTIN	21
#define SIGTTOU	22
#define WNOHANG	1
#define TIOCSPGRP	0x5410

TEXT ·start(SB),NOSPLIT|NOFRAME,$0
	MOVQ	0(SP), CX		// argc
	LEAQ	8(SP), R12		// argv
	LEAQ	16(SP)(CX*8), R13	// envp: behind argv's NULL
	SUBQ	$block, SP
	ANDQ	$~15, SP
	MOVQ	SP, R15

	XORL	AX, AX
	MOVQ	AX, none(R15)
	NOTQ	AX
	MOVQ	AX, all(R15)
	XORL	AX, AX
	MOVQ	$1, ignore(R15)
	MOVQ	AX, ignore+8(R15)
	MOVQ	AX, ignore+16(R15)
	MOVQ	AX, ignore+24(R15)
	MOVQ	AX, deflt(R15)
	MOVQ	AX, deflt+8(R15)
	MOVQ	AX, deflt+16(R15)
	MOVQ	AX, deflt+24(R15)

	ADDQ	$8, R12			// our own name
	DECQ	CX
	JLE	usage
	MOVQ	0(R12), AX		// "--" may stand before the program
	CMPB	0(AX), $'-'
	JNE	block_signals
	CMPB	1(AX), $'-'
	JNE	block_signals
	CMPB	2(AX), $0
	JNE	block_signals
	ADDQ	$8, R12
	DECQ	CX
	JLE	usage

block_signals:
	MOVQ	$SYS_rt_sigprocmask, AX
	MOVQ	$SIG_SETMASK, DI
	LEAQ	all(R15), SI
	XORL	DX, DX
	MOVQ	$8, R10
	SYSCALL

	MOVQ	$SYS_clone, AX		// a fork
	MOVQ	$SIGCHLD, DI
	XORL	SI, SI
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	SYSCALL
	TESTQ	AX, AX
	JZ	child
	JLT	cannot
	MOVQ	AX, R14

// Wait for a signal; they are all blocked, so none is lost between two waits.
wait:
	MOVQ	$SYS_rt_sigtimedwait, AX
	LEAQ	all(R15), DI
	XORL	SI, SI
	XORL	DX, DX
	MOVQ	$8, R10
	SYSCALL
	TESTQ	AX, AX
	JLE	wait			// EINTR: stopped and continued
	CMPQ	AX, $SIGCHLD
	JEQ	reap
	MOVQ	AX, SI			// anything else is for the program
	MOVQ	$SYS_kill, AX
	MOVQ	R14, DI
	SYSCALL
	JMP	wait

reap:
	MOVQ	$SYS_wait4, AX
	MOVQ	$-1, DI
	LEAQ	status(R15), SI
	MOVQ	$WNOHANG, DX
	XORL	R10, R10
	SYSCALL
	TESTQ	AX, AX
	JLE	wait			// no more that have ended, or none at all
	CMPQ	AX, R14
	JNE	reap
	MOVL	status(R15), AX
	MOVL	AX, DI
	SHRL	$8, DI			// exit status
	ANDL	$0xff, DI
	ANDL	$0x7f, AX		// signal
	JZ	exit
	LEAQ	128(AX), DI
	JMP	exit

usage:
cannot:
	MOVQ	$125, DI
exit:
	MOVQ	$SYS_exit_group, AX
	SYSCALL
	JMP	exit

// The child: own process group, foreground, default signals, execve.
child:
	MOVQ	$SYS_setpgid, AX
	XORL	DI, DI
	XORL	SI, SI
	SYSCALL
	LEAQ	ignore(R15), SI		// else TIOCSPGRP from the background stops us
	CALL	terminal_signals<>(SB)
	MOVQ	$SYS_getpgrp, AX
	SYSCALL
	MOVL	AX, group(R15)
	MOVQ	$SYS_ioctl, AX		// fails without a terminal, which is right
	XORL	DI, DI
	MOVQ	$TIOCSPGRP, SI
	LEAQ	group(R15), DX
	SYSCALL
	LEAQ	deflt(R15), SI
	CALL	terminal_signals<>(SB)
	MOVQ	$SYS_rt_sigprocmask, AX
	MOVQ	$SIG_SETMASK, DI
	LEAQ	none(R15), SI
	XORL	DX, DX
	MOVQ	$8, R10
	SYSCALL

	MOVQ	$2, BX			// what a search that finds nothing says: ENOENT
	MOVQ	0(R12), SI
	MOVQ	SI, DI
slash:	// a name with a slash is not searched for
	MOVBLZX	0(DI), AX
	INCQ	DI
	CMPB	AX, $'/'
	JEQ	direct
	TESTB	AX, AX
	JNZ	slash

	MOVQ	R13, R8			// find PATH in the environment
variable:
	MOVQ	0(R8), R9
	ADDQ	$8, R8
	TESTQ	R9, R9
	JZ	direct
	CMPL	0(R9), $0x48544150	// "PATH"
	JNE	variable
	CMPB	4(R9), $'='
	JNE	variable
	ADDQ	$5, R9			// R9: rest of PATH

entry:	// copy one entry of PATH, a slash and the name; try it
	LEAQ	path(R15), DI
	LEAQ	pathEnd(R15), R10
letter:
	MOVBLZX	0(R9), AX
	TESTB	AX, AX
	JZ	name
	INCQ	R9
	CMPB	AX, $':'
	JEQ	name
	CMPQ	DI, R10
	JCC	too_long
	MOVB	AX, 0(DI)
	INCQ	DI
	JMP	letter
name:
	LEAQ	path(R15), AX
	CMPQ	DI, AX			// an empty entry is the working directory
	JNE	separator
	MOVB	$'.', 0(DI)
	INCQ	DI
separator:
	MOVB	$'/', 0(DI)
	INCQ	DI
	MOVQ	0(R12), SI
copy:
	CMPQ	DI, R10
	JCC	too_long
	MOVBLZX	0(SI), AX
	MOVB	AX, 0(DI)
	INCQ	SI
	INCQ	DI
	TESTB	AX, AX
	JNZ	copy
	MOVQ	$SYS_execve, AX
	LEAQ	path(R15), DI
	MOVQ	R12, SI
	MOVQ	R13, DX
	SYSCALL
	CMPQ	AX, $-2			// ENOENT
	JEQ	next
	CMPQ	AX, $-20		// ENOTDIR
	JEQ	next
	NEGQ	AX
	MOVQ	AX, BX			// EACCES and others: go on, but remember
next:
	CMPB	0(R9), $0
	JNE	entry
	JMP	failed
too_long:
	MOVQ	$36, BX			// ENAMETOOLONG
	JMP	failed

direct:
	MOVQ	$SYS_execve, AX
	MOVQ	0(R12), DI
	MOVQ	R12, SI
	MOVQ	R13, DX
	SYSCALL
	NEGQ	AX
	MOVQ	AX, BX

failed:	// "tare-init: exec NAME failed: no such file or cannot be executed"
	LEAQ	message<>(SB), SI
	MOVQ	$16, DX
	CALL	print<>(SB)
	MOVQ	0(R12), SI
	MOVQ	SI, DX
length:
	CMPB	0(DX), $0
	JEQ	counted
	INCQ	DX
	JMP	length
counted:
	SUBQ	SI, DX
	CALL	print<>(SB)
	MOVQ	$127, DI
	LEAQ	missing<>(SB), SI
	MOVQ	$28, DX
	CMPQ	BX, $2
	JEQ	say
	CMPQ	BX, $20
	JEQ	say
	MOVQ	$126, DI
	LEAQ	refused<>(SB), SI
	MOVQ	$20, DX
say:
	MOVQ	DI, R14
	CALL	print<>(SB)
	MOVQ	R14, DI
	JMP	exit

// print writes DX bytes at SI to standard error.
TEXT print<>(SB),NOSPLIT|NOFRAME,$0
	MOVQ	$SYS_write, AX
	MOVQ	$2, DI
	SYSCALL
	RET

// terminal_signals sets the action at SI for SIGTTIN and SIGTTOU.
TEXT terminal_signals<>(SB),NOSPLIT|NOFRAME,$0
	MOVQ	$SYS_rt_sigaction, AX
	MOVQ	$SIGTTIN, DI
	XORL	DX, DX
	MOVQ	$8, R10
	SYSCALL
	MOVQ	$SYS_rt_sigaction, AX
	MOVQ	$SIGTTOU, DI
	SYSCALL
	RET

DATA message<>+0(SB)/8, $"tare-ini"
DATA message<>+8(SB)/8, $"t: exec "
GLOBL message<>(SB), RODATA|NOPTR, $16
DATA missing<>+0(SB)/8, $": no suc"
DATA missing<>+8(SB)/8, $"h file o"
DATA missing<>+16(SB)/8, $"r direct"
DATA missing<>+24(SB)/4, $"ory\n"
GLOBL missing<>(SB), RODATA|NOPTR, $28
DATA refused<>+0(SB)/8, $": cannot"
DATA refused<>+8(SB)/8, $" be exec"
DATA refused<>+16(SB)/4, $"uted"
GLOBL refused<>(SB), RODATA|NOPTR, $20
