using Nibble.Bench;

return BenchCommand.Run(args);
