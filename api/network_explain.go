package api

// NetworkExplainPath is the route of NetworkExplanation: GET with from, to, port and ipv6.
const NetworkExplainPath = "/tare/networks/explain"

// NetworkExplainOptions say which packet NetworkExplain is about.
type NetworkExplainOptions struct {
	// From is who sends it: an address, the name or ID of a container, or "host". If
	// it is empty, a neighbour of the host does.
	From string
	// To is where to: an address, or the name or ID of a container. If it is empty,
	// the port is one of the host.
	To string
	// Port is PORT/PROTO: of the host, or the container's. It may have the address before
	// it (192.0.2.1:80, [2001:db8::1]:80) instead of To.
	Port string
	// IPv6 asks by IPv6 where no address says which version of IP it is about.
	IPv6 bool
}

// Verdicts of an explanation.
const (
	VerdictPasses  = "passes"
	VerdictBlocked = "blocked"
	VerdictUnknown = "unknown" // it depends on what the engine cannot know
)

// NetworkExplanation says what becomes of a packet, and why.
type NetworkExplanation struct {
	From    string // address, and what it is
	To      string
	Proto   string
	Verdict string
	Reason  string
	// Place is the rule, or the policy, that blocks; null if it is none.
	Place *FilterPlace `json:",omitempty"`
	// Doubts are rules that the engine cannot evaluate, and that would change the
	// verdict.
	Doubts []FilterPlace `json:",omitempty"`
	Advice string        `json:",omitempty"`
	Steps  []NetworkStep
}

// FilterPlace is a rule of the packet filter.
type FilterPlace struct {
	Hook   string
	Table  string // family and name
	Chain  string
	Base   string `json:",omitempty"` // the chain with the hook, if it is another
	Handle uint64 `json:",omitempty"` // of the rule; none if it is the chain's policy
	Rule   string
	Does   string `json:",omitempty"`
	Doubt  string `json:",omitempty"` // the expression that cannot be evaluated
}

// NetworkStep is one step of the packet's way.
type NetworkStep struct {
	Where string
	What  string
}
