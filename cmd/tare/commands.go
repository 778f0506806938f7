package main

// commands is the tree of commands. Those that stand in a group as well as at
// the top are made by the same function.
var commands = []command{
	{name: "ps", group: "Common Commands", build: newPsCommand},
}
