using Nibble.Backends;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>Checks that ops share: they name the op, what was expected and what came.</summary>
internal static class Check
{
    public static void Float(string op, string name, Tensor tensor)
    {
        if (tensor.DType != DType.F32)
        {
            Throw.Argument(op, $"{name} must be F32, not {tensor.DType} {tensor.Shape}");
        }
    }

    /// <summary>A cache of keys or values in any of its forms, or with the numbers of the backend's activations.</summary>
    public static void Cache(string op, string name, Tensor tensor, IBackend backend)
    {
        if (tensor.DType is not (DType.F32 or DType.F16 or DType.BF16 or DType.U8) && !backend.Computes(tensor.DType))
        {
            Throw.Argument(op, $"{name} must be F32, F16, BF16 or U8, not {tensor.DType} {tensor.Shape}");
        }
    }

    /// <summary>F32, or what else the backend computes with.</summary>
    public static void Float(string op, string name, Tensor tensor, IBackend backend)
    {
        if (!backend.Computes(tensor.DType))
        {
            Throw.Argument(op, $"{name} is {tensor.DType} {tensor.Shape}, with which {backend.Name} {backend.KernelVariant} does not compute");
        }
    }

    /// <summary>Both must have the same shape; they may hold other numbers.</summary>
    public static void SameShape(string op, string name, Tensor tensor, string otherName, Tensor other, IBackend backend)
    {
        Float(op, otherName, other, backend);
        if (tensor.Shape != other.Shape)
        {
            Throw.Argument(op, $"{name} {tensor.Shape} and {otherName} {other.Shape} must have the same shape");
        }
    }

    public static void Same(string op, string name, Tensor tensor, string otherName, Tensor other)
    {
        if (tensor.DType != other.DType || tensor.Shape != other.Shape)
        {
            Throw.Argument(op, $"{name} {tensor.DType} {tensor.Shape} and {otherName} {other.DType} {other.Shape} must have the same shape and dtype");
        }
    }

    /// <summary>The tensor must be a matrix when seen as rows × columns.</summary>
    public static void Matrix(string op, string name, Tensor tensor, nint rows, nint columns, IBackend? backend = null)
    {
        if (backend is null || !backend.Computes(tensor.DType))
        {
            Float(op, name, tensor);
        }

        if (tensor.Shape.Rows != rows || tensor.Shape.Columns != columns)
        {
            Throw.Argument(op, $"{name} must have {rows} rows of {columns}, not shape {tensor.Shape}");
        }
    }

    /// <summary>The tensor must be a vector of F32, or null.</summary>
    public static void Vector(string op, string name, Tensor? tensor, nint count)
    {
        if (tensor is not null && (tensor.DType != DType.F32 || tensor.Shape.Count != count))
        {
            Throw.Argument(op, $"{name} must be F32 [{count}], not {tensor.DType} {tensor.Shape}");
        }
    }

    /// <summary>The tensor must be a vector of I32, or null.</summary>
    public static void Indices(string op, string name, Tensor? tensor, nint count)
    {
        if (tensor is not null && (tensor.DType != DType.I32 || tensor.Shape.Count != count))
        {
            Throw.Argument(op, $"{name} must be I32 [{count}], not {tensor.DType} {tensor.Shape}");
        }
    }

    /// <summary>Indices that the host can see must lie in a range; those of a device are checked by who made them.</summary>
    public static void Range(string op, string name, Tensor indices, nint first, nint end)
    {
        if (!indices.IsOnHost)
        {
            return;
        }

        foreach (int index in indices.HostSpan<int>())
        {
            if (index < first || index >= end)
            {
                Throw.Argument(op, $"{name} has {index}, which is not in {first} to {end - 1}");
            }
        }
    }
}
