using Nibble.Cli;

return CommandLineHost.Run(args);
