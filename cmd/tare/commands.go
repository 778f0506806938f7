package main

// Headings of the top level's help.
const (
	common         = "Common Commands"
	management     = "Management Commands"
	others         = "Commands"
	invalidPlugins = "Invalid Plugins"
)

// commands is the tree of commands. Those that stand in a group as well as at
// the top are made by the same function. names says what a command's
// arguments are, for completion; "one" that only the first of them is such.
var commands = []command{
	{name: "run", group: common, build: newRunCommand, names: namesImages, one: true},
	{name: "exec", group: common, build: newExecCommand, names: namesRunning, one: true},
	{name: "ps", group: common, build: newPsCommand},
	{name: "build", group: common, build: newBuildCommand},
	{name: "bake", group: common, build: newBakeCommand},
	{name: "pull", group: common, build: newPullCommand},
	{name: "push", group: common, build: newPushCommand, names: namesImages, one: true},
	{name: "images", group: common, build: newImagesCommand, names: namesImages, one: true},
	{name: "login", group: common, build: newLoginCommand, names: namesServers, one: true},
	{name: "logout", group: common, build: newLogoutCommand, names: namesServers, one: true},
	{name: "search", group: common, build: newSearchCommand},
	{name: "version", group: common, build: newVersionCommand},
	{name: "info", group: common, build: newInfoCommand},

	{name: "builder", group: management, short: "Manage builds", sub: builderCommands},
	{name: "checkpoint", group: management, short: "Manage checkpoints (engines with experimental features)", sub: checkpointCommands},
	{name: "container", group: management, short: "Manage containers", sub: containerCommands},
	{name: "context", group: management, short: "Manage contexts", sub: contextCommands},
	{name: "image", group: management, short: "Manage images", sub: imageCommands},
	{name: "layer", group: management, short: "Manage of what the roots of running containers consist", sub: layerCommands},
	{name: "manifest", group: management, short: "Manage manifests and manifest lists of registries", sub: manifestCommands},
	{name: "network", group: management, short: "Manage networks", sub: networkCommands},
	{name: "plugin", group: management, short: "Manage plugins that the engine runs", sub: pluginCommands},
	{name: "system", group: management, short: "Manage the engine", sub: systemCommands},
	{name: "volume", group: management, short: "Manage volumes", sub: volumeCommands},

	{name: "attach", group: others, build: newAttachCommand, names: namesRunning, one: true},
	{name: "commit", group: others, build: newCommitCommand, names: namesContainers, one: true},
	{name: "cp", group: others, build: newCpCommand},
	{name: "create", group: others, build: newCreateCommand, names: namesImages, one: true},
	{name: "diff", group: others, build: newDiffCommand, names: namesContainers, one: true},
	{name: "events", group: others, build: newEventsCommand},
	{name: "export", group: others, build: newExportCommand, names: namesContainers, one: true},
	{name: "history", group: others, build: newHistoryCommand, names: namesImages, one: true},
	{name: "import", group: others, build: newImportCommand},
	{name: "inspect", group: others, build: newInspectCommand, names: namesContainers},
	{name: "kill", group: others, build: newKillCommand, names: namesRunning},
	{name: "load", group: others, build: newLoadCommand},
	{name: "logs", group: others, build: newLogsCommand, names: namesContainers, one: true},
	{name: "pause", group: others, build: newPauseCommand, names: namesRunning},
	{name: "port", group: others, build: newPortCommand, names: namesRunning, one: true},
	{name: "rename", group: others, build: newRenameCommand, names: namesContainers, one: true},
	{name: "restart", group: others, build: newRestartCommand, names: namesContainers},
	{name: "rm", group: others, build: newRmCommand, names: namesContainers},
	{name: "rmi", group: others, build: newRmiCommand, names: namesImages},
	{name: "save", group: others, build: newSaveCommand, names: namesImages},
	{name: "start", group: others, build: newStartCommand, names: namesContainers},
	{name: "stats", group: others, build: newStatsCommand, names: namesRunning},
	{name: "stop", group: others, build: newStopCommand, names: namesRunning},
	{name: "tag", group: others, build: newTagCommand, names: namesImages, one: true},
	{name: "top", group: others, build: newTopCommand, names: namesRunning, one: true},
	{name: "unpause", group: others, build: newUnpauseCommand, names: namesRunning},
	{name: "update", group: others, build: newUpdateCommand, names: namesContainers},
	{name: "wait", group: others, build: newWaitCommand, names: namesContainers},
	{name: "dm", group: others, build: newDMCommand},
	{name: "union", group: others, build: newUnionCommand},
	{name: "completion", group: others, short: "Print completion scripts for shells", sub: completionCommands},
	{name: "help", group: others, build: newHelpCommand},
}

var containerCommands = []command{
	{name: "attach", build: newAttachCommand, names: namesRunning, one: true},
	{name: "commit", build: newCommitCommand, names: namesContainers, one: true},
	{name: "cp", build: newCpCommand},
	{name: "create", build: newCreateCommand, names: namesImages, one: true},
	{name: "diff", build: newDiffCommand, names: namesContainers, one: true},
	{name: "exec", build: newExecCommand, names: namesRunning, one: true},
	{name: "export", build: newExportCommand, names: namesContainers, one: true},
	{name: "inspect", build: newKindInspectCommand("container"), names: namesContainers},
	{name: "kill", build: newKillCommand, names: namesRunning},
	{name: "logs", build: newLogsCommand, names: namesContainers, one: true},
	{name: "ls list ps", build: newPsCommand},
	{name: "pause", build: newPauseCommand, names: namesRunning},
	{name: "port", build: newPortCommand, names: namesRunning, one: true},
	{name: "prune", build: newContainerPruneCommand},
	{name: "rename", build: newRenameCommand, names: namesContainers, one: true},
	{name: "restart", build: newRestartCommand, names: namesContainers},
	{name: "rm remove", build: newRmCommand, names: namesContainers},
	{name: "run", build: newRunCommand, names: namesImages, one: true},
	{name: "start", build: newStartCommand, names: namesContainers},
	{name: "stats", build: newStatsCommand, names: namesRunning},
	{name: "stop", build: newStopCommand, names: namesRunning},
	{name: "top", build: newTopCommand, names: namesRunning, one: true},
	{name: "unpause", build: newUnpauseCommand, names: namesRunning},
	{name: "update", build: newUpdateCommand, names: namesContainers},
	{name: "wait", build: newWaitCommand, names: namesContainers},
}

var builderCommands = []command{
	{name: "build", build: newBuildCommand},
	{name: "du", build: newBuilderDuCommand},
	{name: "inspect", build: newBuilderInspectCommand},
	{name: "ls list", build: newBuilderLsCommand},
	{name: "prune", build: newBuilderPruneCommand},
}

var contextCommands = []command{
	{name: "create", build: newContextCreateCommand},
	{name: "export", build: newContextExportCommand, names: namesContexts, one: true},
	{name: "import", build: newContextImportCommand},
	{name: "inspect", build: newContextInspectCommand, names: namesContexts},
	{name: "ls list", build: newContextLsCommand},
	{name: "rm remove", build: newContextRmCommand, names: namesContexts},
	{name: "show", build: newContextShowCommand},
	{name: "update", build: newContextUpdateCommand, names: namesContexts, one: true},
	{name: "use", build: newContextUseCommand, names: namesContexts, one: true},
}

var imageCommands = []command{
	{name: "build", build: newBuildCommand},
	{name: "diff", build: newImageDiffCommand, names: namesImages},
	{name: "history", build: newHistoryCommand, names: namesImages, one: true},
	{name: "import", build: newImportCommand},
	{name: "import-engine", build: newImageImportEngineCommand},
	{name: "inspect", build: newKindInspectCommand("image"), names: namesImages},
	{name: "load", build: newLoadCommand},
	{name: "ls list", build: newImagesCommand, names: namesImages, one: true},
	{name: "mount", build: newImageMountCommand, names: namesImages, one: true},
	{name: "pin", build: newImagePinCommand, names: namesImages},
	{name: "prune", build: newImagePruneCommand},
	{name: "pull", build: newPullCommand},
	{name: "push", build: newPushCommand, names: namesImages, one: true},
	{name: "repair", build: newImageRepairCommand, names: namesImages},
	{name: "rm remove rmi", build: newRmiCommand, names: namesImages},
	{name: "save", build: newSaveCommand, names: namesImages},
	{name: "send", build: newImageSendCommand, names: namesImages},
	{name: "tag", build: newTagCommand, names: namesImages, one: true},
	{name: "tree", build: newImageTreeCommand},
	{name: "umount unmount", build: newImageUmountCommand, names: namesImages},
	{name: "unpin", build: newImageUnpinCommand, names: namesImages},
	{name: "verify", build: newImageVerifyCommand, names: namesImages},
}

var layerCommands = []command{
	{name: "add", build: newLayerAddCommand, names: namesRunning, one: true},
	{name: "del", build: newLayerDelCommand, names: namesRunning, one: true},
	{name: "ls list", build: newLayerLsCommand, names: namesRunning, one: true},
	{name: "mod", build: newLayerModCommand, names: namesRunning, one: true},
}

var manifestCommands = []command{
	{name: "annotate", build: newManifestAnnotateCommand},
	{name: "create", build: newManifestCreateCommand},
	{name: "inspect", build: newManifestInspectCommand},
	{name: "push", build: newManifestPushCommand},
	{name: "rm", build: newManifestRmCommand},
}

var networkCommands = []command{
	{name: "connect", build: newNetworkConnectCommand},
	{name: "create", build: newNetworkCreateCommand},
	{name: "disconnect", build: newNetworkDisconnectCommand},
	{name: "explain", build: newNetworkExplainCommand, names: namesRunning, one: true},
	{name: "inspect", build: newKindInspectCommand("network"), names: namesNetworks},
	{name: "ls list", build: newNetworkLsCommand},
	{name: "prune", build: newNetworkPruneCommand},
	{name: "rm remove", build: newNetworkRmCommand, names: namesNetworks},
}

var checkpointCommands = []command{
	{name: "create", build: newCheckpointCreateCommand, names: namesRunning, one: true},
	{name: "ls list", build: newCheckpointLsCommand, names: namesContainers, one: true},
	{name: "rm remove", build: newCheckpointRmCommand, names: namesContainers, one: true},
}

var pluginCommands = []command{
	{name: "create", build: newPluginCreateCommand},
	{name: "disable", build: newPluginDisableCommand, names: namesPlugins, one: true},
	{name: "enable", build: newPluginEnableCommand, names: namesPlugins, one: true},
	{name: "inspect", build: newKindInspectCommand("plugin"), names: namesPlugins},
	{name: "install", build: newPluginInstallCommand},
	{name: "ls list", build: newPluginLsCommand},
	{name: "push", build: newPluginPushCommand, names: namesPlugins, one: true},
	{name: "rm remove", build: newPluginRmCommand, names: namesPlugins},
	{name: "set", build: newPluginSetCommand, names: namesPlugins, one: true},
	{name: "upgrade", build: newPluginUpgradeCommand, names: namesPlugins, one: true},
}

var systemCommands = []command{
	{name: "df", build: newDfCommand},
	{name: "dial-stdio", build: newDialStdioCommand},
	{name: "events", build: newEventsCommand},
	{name: "import-engine", build: newSystemImportEngineCommand},
	{name: "info", build: newInfoCommand},
	{name: "prune", build: newSystemPruneCommand},
}

var volumeCommands = []command{
	{name: "clone", build: newVolumeCloneCommand, names: namesVolumes, one: true},
	{name: "cp", build: newVolumeCpCommand},
	{name: "create", build: newVolumeCreateCommand},
	{name: "du", build: newVolumeDuCommand, names: namesVolumes},
	{name: "export", build: newVolumeExportCommand, names: namesVolumes, one: true},
	{name: "import", build: newVolumeImportCommand, names: namesVolumes, one: true},
	{name: "inspect", build: newKindInspectCommand("volume"), names: namesVolumes},
	{name: "lock", build: newVolumeLockCommand, names: namesVolumes, one: true},
	{name: "ls list", build: newVolumeLsCommand},
	{name: "prune", build: newVolumePruneCommand},
	{name: "rename", build: newVolumeRenameCommand, names: namesVolumes, one: true},
	{name: "replace", build: newVolumeReplaceCommand, names: namesVolumes, one: true},
	{name: "resize", build: newVolumeResizeCommand, names: namesVolumes, one: true},
	{name: "rm remove", build: newVolumeRmCommand, names: namesVolumes},
	{name: "rollback", build: newVolumeRollbackCommand, names: namesVolumes, one: true},
	{name: "snapshot", build: newVolumeSnapshotCommand, names: namesVolumes, one: true},
	{name: "status", build: newVolumeStatusCommand, names: namesVolumes, one: true},
	{name: "unlock", build: newVolumeUnlockCommand, names: namesVolumes, one: true},
	{name: "update", build: newVolumeUpdateCommand, names: namesVolumes, one: true},
}

var completionCommands = []command{
	{name: "bash", build: newCompletionCommand("bash")},
	{name: "fish", build: newCompletionCommand("fish")},
	{name: "zsh", build: newCompletionCommand("zsh")},
}
