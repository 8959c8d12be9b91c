namespace Nibble.Cli;

/// <summary>Commands to copy, shown below each help page. Tests hold them to what the parser takes.</summary>
internal static class Examples
{
    private static readonly Dictionary<string, string[]> All = new()
    {
        ["demo"] = ["nibble demo", "nibble demo -o DIR --json > results.json"],
        ["eval"] =
        [
            "nibble eval MODEL --data FILE.txt --window 512 --stride 256 --limit 20000",
            "nibble eval MODEL --method nf4 --tasks perplexity,latency --json",
            "nibble eval MODEL --adapter tuned --before MODEL --tasks perplexity --data FILE.txt",
        ],
        ["compare"] = ["nibble compare studies/demo.yaml --dry-run", "nibble compare studies/demo.yaml -o report"],
        ["recommend"] = ["nibble recommend MODEL --memory 6GB --context 8192", "nibble recommend MODEL --memory 6GB --prefer size --data FILE.txt", "nibble recommend MODEL --dry-run"],
        ["generate"] = ["nibble generate MODEL --prompt \"def add(\" --max-tokens 64", "nibble generate MODEL.gguf --prompt - --temperature 0.8 --top-p 0.95 < prompt.txt"],
        ["chat"] = ["nibble chat MODEL --system \"Answer in one sentence.\"", "nibble chat MODEL --adapter tuned --temperature 0"],
        ["serve"] = ["nibble serve MODEL --port 8080", "NIBBLE_API_KEY=SECRET nibble serve MODEL.gguf --host 0.0.0.0 --parallel 16"],
        ["finetune"] =
        [
            "nibble finetune --demo -o tuned",
            "nibble finetune MODEL --data rows.jsonl --method qlora --rank 16 --target-modules all-linear -o tuned",
            "nibble finetune MODEL --method qlora --dry-run",
            "nibble finetune MODEL --data rows.jsonl --save-steps 100 -o tuned --resume",
        ],
        ["merge"] = ["nibble merge MODEL --adapter tuned -o merged", "nibble merge MODEL-nf4 --adapter tuned --requantize --data rows.jsonl -o merged-nf4"],
        ["quantize"] =
        [
            "nibble quantize MODEL --method nf4 --double-quant -o MODEL-nf4",
            "nibble quantize MODEL --method gptq --bits 4 --group-size 128 --data FILE.txt -o MODEL-gptq",
            "nibble quantize MODEL --budget 4.25bpw --data FILE.txt -o MODEL-4.25",
        ],
        ["convert"] = ["nibble convert MODEL NAME.gguf --type q8_0", "nibble convert NAME.gguf FOLDER --type bf16", "nibble convert --verify NAME.gguf"],
        ["bench"] = ["nibble bench MODEL --methods none nf4 rtn:bits=4,group_size=64", "nibble bench --shapes llama-1.1b --methods rtn:bits=4 --quantize-head"],
        ["runs"] = ["nibble runs", "nibble runs 12 --json", "nibble runs --remove 12 --dry-run"],
        ["dashboard"] = ["nibble dashboard", "nibble dashboard --port 0"],
        ["pull"] = ["nibble pull Qwen/Qwen3-0.6B", "nibble pull ORG/NAME-GGUF:Q4_K_M", "nibble pull ORG/NAME --revision v1.0 --dry-run"],
        ["cache"] = ["nibble cache", "nibble cache --remove ORG/NAME"],
        ["show"] = ["nibble show MODEL", "nibble show NAME.gguf --tensors"],
        ["estimate"] = ["nibble estimate", "nibble estimate MODEL --method qlora --rank 16 --max-seq-length 2048"],
        ["devices"] = ["nibble devices --json"],
        ["doctor"] = ["nibble doctor"],
        ["completion"] = ["source <(nibble completion bash)", "nibble completion fish > ~/.config/fish/completions/nibble.fish"],
    };

    /// <summary>The examples of a verb.</summary>
    public static IReadOnlyList<string> Of(string verb) => All.GetValueOrDefault(verb, []);
}
