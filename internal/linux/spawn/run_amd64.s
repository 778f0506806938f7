#include "textflag.h"

// func cloneRun(args, size, plan uintptr) (pid, errno uintptr)
//
// clone3, and in the child the interpreter of plans.
TEXT ·cloneRun(SB),NOSPLIT,$0-40
	MOVQ	args+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	plan+16(FP), R12
	MOVQ	$435, AX		// clone3
	SYSCALL
	TESTQ	AX, AX
	JZ	child
	CMPQ	AX, $0xfffffffffffff001
	JLS	parent
	NEGQ	AX
	MOVQ	$0, pid+24(FP)
	MOVQ	AX, errno+32(FP)
	RET
parent:
	MOVQ	AX, pid+24(FP)
	MOVQ	$0, errno+32(FP)
	RET
child:
	JMP	·interpret(SB)

// The interpreter of plans: R12 is the plan's header, R13 the step, R14 the
// plan for the child of a clone step. It uses no Go stack, no g, no runtime and
// no memory but plans, and ends in execve or exit_group. It may be copied.
TEXT ·interpret(SB),NOSPLIT,$0-0
start:
	MOVQ	0(R12), R13
step:
	MOVQ	0(R13), AX
	CMPQ	AX, $-1
	JEQ	end
	MOVQ	8(R13), DI
	MOVQ	16(R13), SI
	MOVQ	24(R13), DX
	MOVQ	32(R13), R10
	MOVQ	40(R13), R8
	MOVQ	48(R13), R9
	MOVBLZX	56(R13), CX		// which arguments are slots
	TESTL	CX, CX
	JZ	call
	BTL	$0, CX
	JCC	arg1
	MOVQ	64(R12)(DI*8), DI
arg1:
	BTL	$1, CX
	JCC	arg2
	MOVQ	64(R12)(SI*8), SI
arg2:
	BTL	$2, CX
	JCC	arg3
	MOVQ	64(R12)(DX*8), DX
arg3:
	BTL	$3, CX
	JCC	arg4
	MOVQ	64(R12)(R10*8), R10
arg4:
	BTL	$4, CX
	JCC	arg5
	MOVQ	64(R12)(R8*8), R8
arg5:
	BTL	$5, CX
	JCC	call
	MOVQ	64(R12)(R9*8), R9
call:
	CMPQ	AX, $-8
	JCC	pseudo			// unsigned: -8 to -1
	XORL	R14, R14
	MOVBLZX	59(R13), CX		// read before the call: the child may not have this arena
	TESTL	CX, CX
	JZ	system
	MOVQ	56(R12)(CX*8), R14
system:
	SYSCALL
	CMPQ	AX, $0xfffffffffffff001
	JCC	failed
result:					// AX: the result, or -errno under FlagAny
	TESTQ	R14, R14
	JZ	keep
	TESTQ	AX, AX
	JNZ	keep
	MOVQ	R14, R12		// the child keeps nothing: the parent may share the slots
	JMP	start
keep:
	MOVBLZX	57(R13), CX
	TESTL	CX, CX
	JZ	flags
	MOVQ	AX, 56(R12)(CX*8)	// slot CX-1
flags:
	MOVBLZX	58(R13), CX
	TESTL	$2, CX			// FlagZeroExits
	JZ	parentexits
	TESTQ	AX, AX
	JZ	quit
parentexits:
	TESTL	$8, CX			// FlagParentExits
	JZ	advance
	TESTQ	AX, AX
	JNZ	quit
advance:
	ADDQ	$80, R13
	JMP	step

failed:
	CMPQ	AX, $-4			// EINTR: the same step again
	JEQ	step
	MOVBLZX	58(R13), CX
	TESTL	$1, CX			// FlagAny
	JNZ	result
	TESTL	$4, CX			// FlagSearch
	JZ	ignored
	CMPQ	AX, $-2			// ENOENT
	JEQ	advance
	CMPQ	AX, $-20		// ENOTDIR
	JEQ	advance
	CMPQ	AX, $-13		// EACCES: go on, but remember
	JNE	ignored
	MOVQ	$13, 32(R12)
	JMP	advance
ignored:
	NEGQ	AX
	MOVWLZX	60(R13), CX
	CMPL	AX, CX
	JEQ	zero
	MOVWLZX	62(R13), CX
	CMPL	AX, CX
	JEQ	zero
report:
	MOVQ	AX, 8(R12)		// errno
	MOVQ	R13, 16(R12)		// step
	MOVQ	40(R12), DI		// report descriptor + 1
	TESTQ	DI, DI
	JZ	end
	SUBQ	$1, DI
	LEAQ	8(R12), SI
	MOVQ	$16, DX
	MOVQ	$1, AX			// write
	SYSCALL
end:
	MOVQ	$253, DI
	JMP	exit
quit:
	XORL	DI, DI
exit:
	MOVQ	$231, AX		// exit_group
	SYSCALL
	JMP	exit
zero:
	XORL	AX, AX
	JMP	result

pseudo:
	CMPQ	AX, $-3			// NrSwitch
	JEQ	switch
	CMPQ	AX, $-4			// NrStore
	JEQ	store
	CMPQ	AX, $-6			// nrCopy
	JEQ	copy
	CMPQ	AX, $-7			// nrMove
	JEQ	move
	MOVQ	32(R12), AX		// NrNotFound
	TESTQ	AX, AX
	JNZ	report
	MOVQ	$2, AX
	JMP	report
move:
	MOVQ	SI, R12
	JMP	DI
copy:
	MOVQ	DX, CX
	CLD
	REP; MOVSB
	JMP	advance
store:
	MOVQ	SI, 0(DI)
	JMP	advance
switch:
	TESTQ	DI, DI
	JZ	quit
	MOVQ	DI, R12
	JMP	start

// The end of the code that a nursery keeps mapped.
TEXT ·cloneRunEnd(SB),NOSPLIT,$0-0
	RET

// func codeRange() (lo, hi uintptr)
TEXT ·codeRange(SB),NOSPLIT,$0-16
	LEAQ	·interpret(SB), AX
	MOVQ	AX, lo+0(FP)
	LEAQ	·cloneRunEnd(SB), AX
	MOVQ	AX, hi+8(FP)
	RET
