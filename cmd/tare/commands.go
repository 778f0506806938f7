package main

// commands is the tree of commands. Those that stand in a group as well as at
// the top are made by the same function.
var commands = []command{
	{name: "run", group: "Common Commands", build: newRunCommand},
	{name: "ps", group: "Common Commands", build: newPsCommand},
	{name: "create", group: "Commands", build: newCreateCommand},
}
