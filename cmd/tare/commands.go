package main

// Headings of the top level's help.
const (
	common     = "Common Commands"
	management = "Management Commands"
	others     = "Commands"
)

// commands is the tree of commands. Those that stand in a group as well as at
// the top are made by the same function.
var commands = []command{
	{name: "run", group: common, build: newRunCommand},
	{name: "ps", group: common, build: newPsCommand},
	{name: "images", group: common, build: newImagesCommand},
	{name: "version", group: common, build: newVersionCommand},

	{name: "create", group: others, build: newCreateCommand},
	{name: "inspect", group: others, build: newInspectCommand},
	{name: "load", group: others, build: newLoadCommand},
	{name: "logs", group: others, build: newLogsCommand},
}
